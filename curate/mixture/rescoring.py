"""Score new rows with the existing proxy checkpoints and clusters, to determine whether they are hard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.clusterers.assignment import assign
from curate.data.examples import Examples
from curate.data.wording import listed, type_name
from curate.difficulty.scores import Scores, Split, as_scores
from curate.difficulty.split import INVALID
from curate.errors import InputError
from curate.run import Run, Scorer, measures_of
from curate.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Rescored:
    """m new rows, scored like the originals.

    scores: of the m rows. A scorer that ranks within a dataset ranks them among the originals and each other.
    cluster: (m,) int32, numbered as in the split of the originals; -1 noise, -2 not scored.
    hard: (m,) bool, whether that cluster is hard.
    rule: how clusters were chosen, see `curate.clusterers.assignment.assign`.
    unknown_source: (m,) bool, rows assigned regardless of source, since no original has their source.
    """

    scores: Scores
    cluster: npt.NDArray[np.int32]
    hard: BoolArray
    rule: str
    unknown_source: BoolArray

    def __len__(self) -> int:
        return len(self.cluster)

    @property
    def difficulty(self) -> FloatArray:
        """(m,) float32, NaN for rows that could not be scored."""
        return self.scores.difficulty

    @property
    def hard_rate(self) -> float | None:
        """Share of hard rows among all new rows, including those that could not be scored; None without rows."""
        return float(self.hard.mean()) if len(self) else None


def rescore(
    new: Examples,
    examples: Examples,
    split: Split,
    *,
    scorer: Scorer,
    clusterer: Any,
    run: Run,
    sources: Any = None,
) -> Rescored:
    """Score the m `new` rows together with the n `examples`, and assign them to clusters of the examples' split.

    scorer, clusterer, run: those of the split. The proxy is the one trained on `examples`; new rows are measured once
        on its checkpoints (both are cached), and the scorer gets all n + m rows.
    sources: (m,) labels of the new rows if clustering was per source; None = their source column.

    A row without completion text is neither clustered nor hard. Raises InputError for new rows with other columns than
    the examples, for an id that the examples have, for a split of other rows, and for missing sources.
    """
    _check_split(examples, split)
    both = behind(examples, new)
    extended_run = replace(run, trained_on=examples)
    if measures := measures_of(scorer):
        extended_run.trace(both, measures)
    scores = as_scores(scorer.score(both, extended_run), len(both)).with_ids(both.ids)
    n = len(examples)
    fresh = scores.take(np.arange(n, len(both)))
    old = np.flatnonzero(split.valid & scores.valid[:n])  # (o,) clustered originals
    rows = np.flatnonzero(fresh.valid)  # (v,) new rows to be assigned
    old_sources, new_sources = None, None
    if split.per_source:
        assert split.sources is not None  # a split that was made per source has them
        old_sources, new_sources = split.sources[old], _sources(new, sources)[rows]
    assigned = assign(
        clusterer,
        scores.features[old],
        split.cluster[old],
        fresh.features[rows],
        sources=old_sources,
        new_sources=new_sources,
    )
    cluster = np.full(len(new), INVALID, np.int32)  # (m,)
    cluster[rows] = assigned.cluster
    unknown = np.zeros(len(new), np.bool_)
    unknown[rows] = assigned.unknown_source
    hard = np.isin(cluster, np.unique(split.cluster[split.hard]))  # a cluster is hard as a whole or not at all
    return Rescored(fresh, cluster, hard, assigned.rule, unknown)


def behind(examples: Examples, new: Examples) -> Examples:
    """The examples followed by the new rows, in the columns and types of the examples.

    Raises InputError if columns, types or roles differ, or an id is repeated.
    """
    _check_columns(examples, new)
    schema = examples.table.schema
    table = pa.concat_tables([examples.table, pa.Table.from_arrays(new.table.columns, schema=schema)])
    ids = pa.concat_arrays([examples.ids, new.ids.cast(examples.ids.type)])
    if pc.count_distinct(ids).as_py() < len(ids):
        counted = pc.value_counts(ids)
        twice = counted.filter(pc.greater(counted.field("counts"), 1))[0]["values"].as_py()
        raise InputError(f"example id {twice!r} names two rows; give every new row a unique id")
    return Examples(table, ids, examples.shape, examples.columns, _made(examples.made, new.made))


def _made(first: pa.Table | None, second: pa.Table | None) -> pa.Table | None:
    """The derived columns (`Examples.made`) of all rows."""
    if first is None or second is None:
        return None
    return pa.concat_tables([first, second.select(first.column_names).cast(first.schema)])


def _check_columns(examples: Examples, new: Examples) -> None:
    """Raise InputError if new rows have other columns, types, shape or roles than the examples."""
    new_schema, schema = new.table.schema, examples.table.schema
    if new_schema.names != schema.names:
        raise InputError(
            f"new rows have the columns {listed(new_schema.names)}, the examples {listed(schema.names)}; give them "
            "the same"
        )
    for field in schema:
        kind = new_schema.field(field.name).type
        if kind != field.type:
            raise InputError(
                f"column {field.name!r} of the new rows is {type_name(kind)}, not {type_name(field.type)}; cast it"
            )
    if (new.shape, dict(new.columns)) != (examples.shape, dict(examples.columns)):
        raise InputError(
            f"new rows are {new.shape} with roles {dict(new.columns)}, the examples {examples.shape} with "
            f"{dict(examples.columns)}; give them the same"
        )


def _check_split(examples: Examples, split: Split) -> None:
    """Raise InputError if the ids of split and examples differ: rows are never joined by position alone."""
    if not examples.ids.equals(split.ids.cast(examples.ids.type)):
        raise InputError(
            f"the split ({len(split):,} rows) is not of these {len(examples):,} examples, or not in their order; "
            "read the data once, and use that for the split and here"
        )


def _sources(new: Examples, given_sources: Any) -> npt.NDArray[np.object_]:
    labels = new.sources() if given_sources is None else np.asarray(given_sources, dtype=object)
    if labels is None:
        raise InputError("clusters were found per source but the new rows have none; pass sources=...")
    if labels.shape != (len(new),):
        raise InputError(f"sources has shape {labels.shape} for {len(new)} new rows; give one label per row")
    return labels
