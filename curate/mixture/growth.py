"""Score new rows with the kept checkpoints and clusters of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.clusterers.per_source import is_per_source
from curate.data.examples import Examples, content_ids
from curate.data.json_as_text import as_json
from curate.data.json_values import holds_json
from curate.data.readers import read
from curate.difficulty.score_files import read_scores
from curate.difficulty.scores import COUNTS, Scores, Split
from curate.errors import ExternalError, InputError
from curate.mixture.rescoring import Rescored, rescore
from curate.proxy.proxy import Proxy
from curate.proxy.trace import cached_state
from curate.proxy.training import ProxyTraining
from curate.run import Run, Scorer, measures_of
from curate.storage.places import arrow_path
from curate.storage.records import check_files, read_finished
from curate.types import BoolArray, FloatArray

_REMEDY = "rerun the command that wrote it with --fresh"
# Difference of two distributions that is worth a warning: significant at 1 %, and not small.
_SIGNIFICANT, _LARGE = 1.63, 0.1


@dataclass(frozen=True)
class KeptRun:
    """A finished run: the n rows that it scored, their scores and their clusters."""

    directory: Path
    record: dict[str, Any]
    examples: Examples
    scores: Scores
    split: Split

    def knows(self, ids: Any) -> BoolArray:
        """(m,) whether each of these ids is one of the n rows."""
        return pc.is_in(ids, value_set=self.split.ids.cast(ids.type)).to_numpy(zero_copy_only=False)

    def changed(self, examples: Examples) -> list[str]:
        """Ids of the given rows that the run scored with other content; none where ids are hashes of the content."""
        if "id" not in examples.columns:
            return []
        here = examples.take(np.flatnonzero(self.knows(examples.ids)))
        rows = pc.index_in(here.ids, value_set=self.split.ids.cast(here.ids.type)).to_numpy()
        both = [_digests(each) for each in (here, self.examples.take(rows))]
        return [name for name, new, old in zip(here.ids.to_pylist(), *both, strict=True) if new != old]


def _digests(examples: Examples) -> list[str]:
    """(n,) hashes of what is read of each row."""
    ids = content_ids(examples.readable, examples.shape, examples.columns)
    return [text[:32] for text in ids.to_pylist()]  # without the numbers of repeats


@dataclass(frozen=True)
class Drift:
    """Difference between the difficulty distributions of new and earlier rows.

    statistic: Kolmogorov-Smirnov, the largest difference of the two distribution functions, 0 to 1. critical: the value
    that two samples of these sizes from one distribution exceed in 1 % of cases. old, new: numbers of rows.
    """

    statistic: float
    critical: float
    old: int
    new: int

    @property
    def warns(self) -> bool:
        """Whether it is significant and above 0.1."""
        return self.statistic > max(self.critical, _LARGE)


def kept_run(directory: Path, clusterer: Any) -> KeptRun:
    """Read the finished run in a folder. clusterer: of its recipe.

    Raises InputError if it is damaged, or if its rows are available neither in it nor at its source.
    """
    record = read_finished(directory)
    check_files(directory, record, _REMEDY)
    tables = directory / "tables"
    split_table = pq.read_table(arrow_path(tables / "split.parquet"))
    examples = _examples(directory, record, split_table["example_id"].combine_chunks())
    scores = _scores(tables, examples.ids)
    split = Split(
        ids=examples.ids,
        cluster=split_table["cluster"].to_numpy().astype(np.int32),
        hard=split_table["hard"].to_numpy(zero_copy_only=False),
        difficulty=scores.difficulty,
        valid=scores.valid,
        final_loss=scores.final_loss,
        sources=examples.sources(),
        per_source=is_per_source(clusterer),
        tokens=scores.tokens,
    )
    return KeptRun(directory, record, examples, scores, split)


def reading_of(record: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `curate.read` with which the rows of a finished run were read."""
    return {"columns": dict(record["data"].get("columns", {})), "shape": record["data"]["shape"]}


def _examples(directory: Path, record: dict[str, Any], ids: pa.Array) -> Examples:
    """The rows that were scored, in order of `ids`: from the result, or from its source if rows are missing there."""
    fingerprint = record["data"]["fingerprint"]
    options = reading_of(record)
    options["columns"].pop("id", None)
    try:
        result = read(directory, allow_curated=True, **options).examples
        originals = pc.and_(pc.equal(result.table["origin"], "original"), pc.equal(result.table["copy"], 0))
        rows = np.flatnonzero(originals.to_numpy(zero_copy_only=False))  # (originals,) positions in the result
        result_ids = result.table["example_id"].take(pa.array(rows)).cast(ids.type).combine_chunks()
        places = pc.index_in(ids, value_set=result_ids)
        if not places.null_count:
            chosen = replace(result.take(rows[places.to_numpy()]), ids=ids.cast(result.ids.type))
            if chosen.fingerprint() == fingerprint:
                return _content(chosen)
    except (InputError, KeyError):
        pass
    source = record["data"]["source"]
    try:
        examples = read(source, **reading_of(record)).examples
        if examples.fingerprint() == fingerprint:
            return _content(examples)
    except (InputError, ExternalError):
        pass
    raise InputError(
        f"{directory} does not hold all rows that it scored as they were, and {source} is not what it read any more; "
        "write a result that keeps them (no rows left out, --write-as input), and name that"
    )


def _content(examples: Examples) -> Examples:
    """The examples with only the columns that have a role, without the id column."""
    columns = {role: name for role, name in examples.columns.items() if role != "id"}
    names = [name for name in examples.table.column_names if name in columns.values()]
    return replace(examples, table=examples.table.select(names), columns=columns)


def _scores(tables: Path, ids: pa.Array) -> Scores:
    """The scores of a run with their trajectories, in the order of `ids`."""
    scores = read_scores(tables / "scores.parquet")
    path = tables / "trajectories.parquet"
    if path.is_file():
        table = pq.read_table(arrow_path(path))
        steps = sorted(int(name.removeprefix("loss_")) for name in table.column_names if name.startswith("loss_"))
        losses = [pc.fill_null(table[f"loss_{step}"], float("nan")).to_numpy() for step in steps]
        trajectory = np.stack(losses, axis=1).astype(np.float32)
        scores = replace(scores, trajectory=trajectory, steps=np.array(steps, np.int64))
    return scores.with_ids(ids)


def score_like(kept: KeptRun, new: Examples, scorer: Scorer, clusterer: Any, proxy: Proxy, run: Run) -> Rescored:
    """Score the m `new` rows, which `kept` does not have, on its checkpoints and assign them to its clusters.

    scorer, clusterer, proxy: of its recipe. run: with its seed. Nothing is trained. Raises InputError if the
    checkpoints are gone, and for rows with other columns.
    """
    if measures := measures_of(scorer):
        _check_checkpoints(kept, measures, proxy, run)
    return rescore(_aligned(_content(new), kept.examples), kept.examples, kept.split, **_parts(scorer, clusterer, run))


def _parts(scorer: Scorer, clusterer: Any, run: Run) -> dict[str, Any]:
    return {"scorer": scorer, "clusterer": clusterer, "run": run}


def _check_checkpoints(kept: KeptRun, measures: Sequence[Any], proxy: Proxy, run: Run) -> None:
    """Raise InputError if the run's checkpoints are of other data or numerics, or no longer cached."""
    facts = kept.record.get("proxy")
    if not facts:
        raise InputError(
            f"{kept.directory} was made with scores of another run, so it has no checkpoints; name the run that "
            "trained the proxy (what it has measured costs nothing)"
        )
    training = ProxyTraining(kept.examples, proxy, run.context)
    if facts.get("fingerprint") not in (None, training.key):
        was = facts.get("numerics") or {}
        names = [name for name in training.numerics if was.get(name) != training.numerics[name]]
        differ = ", ".join(f"{name} {was.get(name)} there, {training.numerics[name]} here" for name in names)
        raise InputError(
            f"the checkpoints of {kept.directory} are of another machine or model ({differ or 'its files differ'}); "
            "score where it was made, or run it again here with --fresh"
        )
    if not cached_state(kept.examples, proxy, measures, run.context).trained:
        raise InputError(
            f"the checkpoints of {kept.directory} are no longer in the cache {run.store}; name the cache that has them "
            "with --cache, or train them again: repeat the command that wrote the folder with --fresh"
        )


def _aligned(new: Examples, examples: Examples) -> Examples:
    """The new rows in the columns and types of the examples; unchanged if they do not fit."""
    schema = examples.table.schema
    if set(new.table.column_names) != set(schema.names):
        return new  # `rescore` says what differs
    columns = []
    for field in schema:
        column = new.table[field.name]
        if holds_json(column.type) and not holds_json(field.type):
            raise InputError(
                f"column {field.name!r} of the new rows is JSON, since its objects have other keys than those of the "
                "run, whose checkpoints do not fit; put the files in one folder and run it anew"
            )
        try:
            if holds_json(field.type) and not holds_json(column.type):
                chunks = [as_json(chunk, field.type) for chunk in column.chunks]
                column = pa.chunked_array(chunks, field.type)
            columns.append(column if column.type == field.type else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return new
    return replace(new, table=pa.Table.from_arrays(columns, schema=schema))


def drift(old: FloatArray, new: FloatArray) -> Drift | None:
    """Drift from difficulties `old` (n,) to `new` (m,), ignoring NaN; None if either is empty."""
    from scipy.stats import ks_2samp

    old, new = old[np.isfinite(old)], new[np.isfinite(new)]
    if not len(old) or not len(new):
        return None
    statistic = float(ks_2samp(old, new, method="asymp").statistic)
    critical = _SIGNIFICANT * float(np.sqrt((len(old) + len(new)) / (len(old) * len(new))))
    return Drift(statistic, critical, len(old), len(new))


def together(kept: Scores, new: Scores, ids: Any) -> Scores:
    """Combine scores of disjoint rows, in the order of `ids`; fields that only one of them has are dropped."""
    both: dict[str, Any] = {}
    for name in ("trajectory", *COUNTS, "length_difference"):
        parts = [getattr(part_scores, name) for part_scores in (kept, new)]
        both[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    kept_ids, new_ids = kept.ids.cast(pa.string()), new.ids.cast(pa.string())
    scores = Scores(
        features=np.concatenate([kept.features, new.features]),
        difficulty=np.concatenate([kept.difficulty, new.difficulty]),
        valid=np.concatenate([kept.valid, new.valid]),
        steps=kept.steps,
        ids=pa.concat_arrays([kept_ids, new_ids]),
        **both,
    )
    return scores.take(pc.index_in(ids.cast(pa.string()), value_set=scores.ids).to_numpy()).with_ids(ids)
