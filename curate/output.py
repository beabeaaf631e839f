"""The folder that `curate run` leaves behind.

Everything is written aside and renamed; run.json comes last, so a folder with run.json is a finished one. Until then
a hidden file marks the folder as ours: without it, a folder that holds data/ and README.md may be anybody's dataset.
"""

from __future__ import annotations

import json
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

from curate.card import dataset_card
from curate.component import fingerprint
from curate.curated import Curated
from curate.errors import InputError
from curate.hashing import file_digest
from curate.plan import Realized
from curate.protocols import Generator, MeasuringScorer
from curate.publish import check_place, disk_errors, publish, publish_file, sync
from curate.score_files import scores_table, trajectories_table
from curate.scores import Scores
from curate.writers import write_parquet_shards

__all__ = ["check_directory", "inputs_fingerprint", "recipe_text", "write_output"]

_OURS = {"data", "tables", "README.md", "report.html", "run.json"}
_UNFINISHED = ".run.json.unfinished"  # becomes run.json by a rename
_PACKAGES = ("curate-lm", "numpy", "pyarrow", "scikit-learn", "torch", "transformers", "tokenizers", "datasets")


def inputs_fingerprint(pipeline: Any, loaded: Any, scores: Scores | None) -> str:
    """What decides the output of a run: data, recipe, files of a local proxy, measures and, where given, scores.

    A measure tells the content of what its scorer only names, such as a target set or a reference model.
    scores: in the order of the rows, see `curate.split.join_scores`.
    """
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
        if Path(pipeline.proxy.model).exists():
            from curate.models import identify

            decided_by.append(identify(pipeline.proxy.model))
    return fingerprint(decided_by)


def check_directory(directory: Path, inputs: str, *, fresh: bool = False) -> bool:
    """Whether `directory` already holds the result of these inputs.

    Raises InputError if it holds something else: other results (unless `fresh`) or files that are not ours; and
    ExternalError if it cannot be written.
    """
    check_place(directory)
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise InputError(f"--out {directory} is a file; name a folder")
    names = {path.name for path in directory.iterdir() if ".partial-" not in path.name}
    foreign = sorted(names - _OURS - {_UNFINISHED})
    if not foreign and names and not names & {"run.json", _UNFINISHED}:
        foreign = sorted(names)
    if foreign:
        raise InputError(f"--out {directory} holds other files ({foreign[0]}); name a new or empty folder")
    if "run.json" not in names:
        return False
    before = _inputs_before(directory / "run.json")
    if before is None:
        raise InputError(f"{directory}/run.json is not that of a run; name another folder, or remove this one")
    if fresh:
        return False
    if before != inputs:
        raise InputError(f"--out {directory} holds the result of other inputs; name another folder, or pass --fresh")
    missing = [name for name in ("data", "tables") if not any((directory / name).glob("*.parquet"))]
    if missing:
        raise InputError(f"{directory}/{missing[0]} is gone although run.json is there; pass --fresh to write it anew")
    return True


def _files(data: Any) -> str | None:
    """Content of the local file or folder that an augmenter reads; None for a hub id or an object in memory."""
    if not isinstance(data, str | Path) or not Path(data).exists():
        return None
    path = Path(data)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return file_digest((file, file.name) for file in files)


def _identity(generator: Any) -> str | None:
    """The model of an augmenter that has one, a local one by its content."""
    return generator.identity() if isinstance(generator, Generator) else None


def _inputs_before(path: Path) -> str | None:
    """Inputs in a run.json; None if it is not one of ours."""
    try:
        inputs = json.loads(path.read_text(encoding="utf-8")).get("inputs")
    except (OSError, ValueError, AttributeError):
        return None
    return inputs if isinstance(inputs, str) else None


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
        publish_file(directory / _UNFINISHED, inputs + "\n")
        with disk_errors(directory):
            (directory / "run.json").unlink(missing_ok=True)
        columns = curated.columns()
        publish(directory / "tables", lambda folder: _write_tables(curated, folder))
        publish(directory / "data", lambda folder: _write_data(curated, columns, folder))
        record = run_record(curated, columns)
    record["inputs"] = inputs
    record["cost"] = _cost(curated)
    publish_file(directory / "README.md", dataset_card(record))
    # The report reads the folder, and the folder is finished only when run.json is there.
    write_report(directory, record=record)
    publish_file(directory / _UNFINISHED, json.dumps(record, indent=1, allow_nan=False) + "\n")
    with disk_errors(directory):
        os.replace(directory / _UNFINISHED, directory / "run.json")
        sync(directory)
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
    examples = loaded.examples
    return {
        "curate_version": metadata.version("curate-lm") if _installed("curate-lm") else "source tree",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": _recipe(pipeline),
        "recipe_yaml": recipe_text(pipeline),
        "seed": pipeline.seed,
        "data": {
            "source": loaded.description,
            "rows_read": loaded.rows_read,
            "rows_used": len(examples),
            "shape": examples.shape,
            "columns": dict(examples.columns),
            "notes": list(loaded.notes),
            "fingerprint": curated.stages.data,
        },
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
        "versions": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        "machine": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
        "clusterer": repr(split_clusterer(curated)),
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
    if curated.scores.tokens is not None:
        tokens = curated.scores.tokens.astype(np.int64)
        counts["tokens_before"] = int(tokens.sum())
        counts["tokens_after"] = int((tokens * curated.plan.counts).sum()) + sum(map(_new_tokens, curated.realized))
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
