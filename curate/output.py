"""What `curate run` leaves behind: the dataset, its tables, card and report, and the record of how it was made."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import curate
from curate.card import content_version, dataset_card
from curate.component import fingerprint
from curate.curated import Curated
from curate.errors import InputError
from curate.hashing import file_digest
from curate.places import expanded, files_under
from curate.plan import Realized
from curate.protocols import Generator, MeasuringScorer
from curate.publish import publish, publish_file
from curate.readers import Loaded
from curate.result_folder import begin, check_directory, finish
from curate.score_files import scores_table, trajectories_table
from curate.scores import Scores
from curate.writers import write_parquet_shards

__all__ = ["data_record", "inputs_fingerprint", "made_by", "recipe_text", "write_output"]

_PACKAGES = ("curate-lm", "numpy", "pyarrow", "scikit-learn", "torch", "transformers", "tokenizers", "datasets")


def inputs_fingerprint(pipeline: Any, loaded: Any, scores: Scores | None) -> str:
    """What decides the output of a run: data, recipe, files of a local proxy, measures and, where given, scores.

    A measure tells the content of what its scorer only names, such as a target set or a reference model.
    scores: in the order of the rows, see `curate.split.join_scores`.
    """
    loaded = loaded.as_read or loaded  # rows that turned out unusable are decided by the rest
    examples = loaded.examples
    decided_by = [examples.fingerprint(), examples.table_fingerprint(), loaded.rejected, pipeline]
    decided_by += [_files(getattr(augmenter, "data", None)) for augmenter in pipeline.augmenters]
    decided_by += [_identity(getattr(augmenter, "generator", None)) for augmenter in pipeline.augmenters]
    named = [each.get("data") if isinstance(each, dict) else each for each in pipeline.gate.evaluation]
    decided_by += [_files(data) for data in named]
    if scores is not None:
        decided_by += [scores.difficulty, scores.features, scores.valid, scores.trajectory, scores.tokens]
    elif isinstance(pipeline.scorer, MeasuringScorer):
        decided_by += pipeline.scorer.measures()
        if expanded(pipeline.proxy.model).exists():
            from curate.models import identify

            decided_by.append(identify(pipeline.proxy.model))
    return fingerprint(decided_by)


def _files(data: Any) -> str | None:
    """Content of the local file or folder that an augmenter reads; None for a hub id or an object in memory."""
    if not isinstance(data, str | Path) or not expanded(data).exists():
        return None
    path = expanded(data)
    files = [path] if path.is_file() else sorted(files_under(path))
    return file_digest((file, file.name) for file in files)


def _identity(generator: Any) -> str | None:
    """The model of an augmenter that has one, a local one by its content."""
    return generator.identity() if isinstance(generator, Generator) else None


def write_output(curated: Curated, directory: Path) -> Path:
    """data/, tables/, README.md, report.html and, last, run.json; an earlier result gives way.

    Raises InputError for a folder of other files and ExternalError where the disk is full; the folder then counts as
    unfinished, and the same call goes on.
    """
    from curate.report import write_report

    given = curated.scores if curated.given_scores else None
    inputs = inputs_fingerprint(curated.pipeline, curated.loaded, given)
    check_directory(directory, inputs, fresh=True)
    with curated.run.progress.stage("write"):
        begin(directory, inputs)
        columns = curated.columns()
        publish(directory / "tables", lambda folder: _write_tables(curated, folder))
        publish(directory / "data", lambda folder: _write_data(curated, columns, folder))
        record = run_record(curated, columns)
    record["inputs"] = inputs
    record["cost"] = _cost(curated)
    publish_file(directory / "README.md", dataset_card(record, content_version(directory / "data")))
    # The report reads the folder, and the folder is finished only when run.json is there.
    write_report(directory, record=record)
    finish(directory, record)
    return directory


def _write_data(curated: Curated, columns: pa.Table, folder: Path) -> None:
    tables = [curated.loaded.examples.table]
    if curated.new_rows is not None:
        tables.append(curated.new_rows)
    write_parquet_shards(tables, curated.positions, columns, folder)


def _write_tables(curated: Curated, folder: Path) -> None:
    ids = curated.loaded.examples.ids
    scores, plan = curated.scores, curated.plan
    tables = {"scores": scores_table(scores, ids), "split": _split_table(curated)}
    if scores.trajectory is not None:
        tables["trajectories"] = trajectories_table(scores, ids)
    reason = pa.array(plan.reason, mask=plan.reason < 0)
    names = pa.array(list(plan.reasons) or [""], pa.string())
    tables["plan"] = pa.table({"example_id": ids, "count": plan.counts, "reason": names.take(reason)})
    tables["rejected"] = curated.rejected
    attempts = [part.attempts for part in curated.realized if part.attempts is not None]
    if attempts:
        tables["synthesis"] = pa.concat_tables(attempts)
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def _split_table(curated: Curated) -> pa.Table:
    split = curated.split
    columns: dict[str, Any] = {"example_id": split.ids}
    if split.sources is not None:
        columns["source"] = pa.array(split.sources, pa.string())
    columns |= {
        "cluster": split.cluster,
        "hard": split.hard,
        "difficulty": pa.array(split.difficulty, mask=~split.valid),
        "noise_suspect": curated.diagnostics.noise_suspect,
    }
    return pa.table(columns)


# -- run.json -----------------------------------------------------------------------------------------------------


def run_record(curated: Curated, columns: pa.Table) -> dict[str, Any]:
    """Everything that is not a row: recipe, fingerprints, counts, diagnostics, versions."""
    pipeline, loaded = curated.pipeline, curated.loaded
    return {
        **made_by(),
        "recipe": _recipe(pipeline),
        "recipe_yaml": recipe_text(pipeline),
        "seed": pipeline.seed,
        "data": data_record(loaded, curated.stages.data),
        "proxy": curated.proxy_facts,
        "stages": {
            "data": curated.stages.data,
            "scores": curated.stages.scores,
            "split": curated.stages.split,
            "plan": curated.stages.plan,
        },
        "counts": _counts(curated, columns),
        "synthesis": [part.record for part in curated.realized if part.record],
        "diagnostics": curated.diagnostics.to_json(),
        "warnings": [{"code": w.code, "message": w.message, "remedy": w.remedy} for w in curated.warnings],
        "clusterer": repr(split_clusterer(curated)),
    }


def made_by() -> dict[str, Any]:
    """Version, time and machine, for a record of what is made now."""
    return {
        "curate_version": curate.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
    }


def data_record(loaded: Loaded, key: str) -> dict[str, Any]:
    """Which rows were read and how. key: fingerprint of the examples."""
    examples = loaded.examples
    return {
        "source": loaded.description,
        "rows_read": loaded.rows_read,
        "rows_used": len(examples),
        "shape": examples.shape,
        "columns": dict(examples.columns),
        "notes": list(loaded.notes),
        "fingerprint": key,
    }


def split_clusterer(curated: Curated) -> Any:
    """The clusterer as it was used, its derived seed included."""
    from curate.clusterers import seeded

    return seeded(curated.pipeline.clusterer, curated.pipeline.seed)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _recipe(pipeline: Any) -> Any:
    from curate.component import describe

    return describe(pipeline)


def recipe_text(pipeline: Any) -> str:
    """The recipe as YAML, or why it cannot be written down."""
    try:
        return str(pipeline.to_yaml())
    except InputError as error:  # a plug-in may live where no recipe can name it; the run is still recorded
        return f"# {error}\n"


def _counts(curated: Curated, columns: pa.Table) -> dict[str, int]:
    split = curated.split
    origins = {each["values"].as_py(): each["counts"].as_py() for each in pc.value_counts(columns.column("origin"))}
    counts = {
        "input": len(split),
        "valid": int(split.valid.sum()),
        "invalid": int((~split.valid).sum()),
        "hard": int(split.hard.sum()),
        "easy": int((split.valid & ~split.hard).sum()),
        "noise": int((split.cluster == -1).sum()),
        "rejected": curated.rejected.num_rows,
        "output": len(curated),
        **{name: int(origins.get(name, 0)) for name in ("original", "duplicate", "replay", "synthetic")},
    }
    planned, weighted = curated.plan.counts, curated.pipeline.copies == "weights"
    if weighted:
        counts["output_weighted"] = int(curated.mixture.weights.sum(dtype=np.float64))
    if curated.scores.tokens is not None:
        tokens, new = curated.scores.tokens.astype(np.int64), sum(map(_new_tokens, curated.realized))
        counts["tokens_before"] = int(tokens.sum())
        counts["tokens_after"] = int((tokens * (planned > 0 if weighted else planned)).sum()) + new
        if weighted:
            counts["tokens_weighted"] = int((tokens * planned).sum()) + new
    return counts


def _new_tokens(part: Realized) -> int:
    """Completion tokens of new rows, where they were counted."""
    measured = part.rows.measured
    return 0 if measured is None or measured.tokens is None else int(measured.tokens.sum())


def _cost(curated: Curated) -> dict[str, Any]:
    stages = [
        {"name": c.name, "seconds": round(c.seconds, 3), "tokens": c.tokens, "cached": c.cached}
        for c in curated.run.progress.costs
    ]
    return {"stages": stages, "seconds": round(sum(c.seconds for c in curated.run.progress.costs), 3)}
