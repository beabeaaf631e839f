"""Scores of all runs on each evaluation set, aligned by example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from curate.comparison.runs import ArmRun
from curate.console.formatting import one_line
from curate.errors import InputError
from curate.types import BoolArray, Float64Array, IntArray

Metric = Literal["accuracy", "nll"]
_METRICS: tuple[Metric, ...] = ("accuracy", "nll")


@dataclass(frozen=True)
class SetValues:
    """One metric on one evaluation set: ids (n,), values (n,) by run folder, and the weight of each example.

    levels, sources: (n,) or None if the set has none. weights: (n,) tokens of the reference answer for nll, so that
    a mean is nats per token as in training and in the summary of an evaluation; None for accuracy, where each example
    counts the same.
    """

    name: str
    metric: Metric
    ids: list[str]
    values: dict[str, Float64Array]
    weights: Float64Array | None
    levels: list[str | None] | None
    sources: list[str | None] | None
    left_out: int

    def table(self, runs: Iterable[ArmRun], rows: BoolArray | slice = slice(None)) -> Float64Array:
        """(S, n) values of these runs on the chosen examples."""
        return np.stack([self.values[run.place][rows] for run in runs])

    def weights_of(self, rows: BoolArray | slice = slice(None)) -> Float64Array:
        return np.ones(len(self.ids))[rows] if self.weights is None else self.weights[rows]


def collect(runs: Sequence[ArmRun]) -> dict[Metric, list[SetValues]]:
    """Sets by metric, for the metrics that the runs have, restricted to examples that every run measured.

    InputError: examples of a set that the runs do not share, a metric that one run has and another lacks, a value that
    is not finite, token counts that differ.
    """
    sets: dict[Metric, list[SetValues]] = {}
    for name in runs[0].evaluations:
        tables = {run.place: _sorted(run, name) for run in runs}
        common = set.intersection(*(set(table["example_id"].to_pylist()) for table in tables.values()))
        if not common:
            raise InputError(f"the runs share no example of {one_line(name)!r}; evaluate all of them on the same file")
        ids = sorted(common)
        total = max(len(table) for table in tables.values())
        tables = {place: take_ids(table, ids) for place, table in tables.items()}
        for metric in _METRICS:
            values = _values(name, metric, ids, tables, total)
            if values is not None:
                sets.setdefault(metric, []).append(values)
    if not sets:
        raise InputError("the evaluations hold neither accuracy nor nll; rerun `curate evaluate`")
    return sets


def _sorted(run: ArmRun, name: str) -> pa.Table:
    table = run.evaluations[name].rows
    ids = table["example_id"].to_pylist()
    if len(set(ids)) < len(ids):
        raise InputError(f"{run.place}/evaluation/{name} holds an example id twice; evaluate it again")
    return table


def take_ids(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The rows with these ids, in the order of `ids`."""
    places = {row_id: row for row, row_id in enumerate(table["example_id"].to_pylist())}
    return table.take([places[row_id] for row_id in ids])


def _values(name: str, metric: Metric, ids: list[str], tables: dict[str, pa.Table], total: int) -> SetValues | None:
    columns = {
        place: table[metric].to_numpy(zero_copy_only=False).astype(np.float64)
        for place, table in tables.items()
        if metric in table.column_names and table[metric].null_count < len(table)
    }
    if not columns:
        return None
    for place, table in tables.items():
        if place not in columns:
            have = next(iter(columns))
            raise InputError(
                f"{place} has no {metric} on {one_line(name)!r}, which {have} has; evaluate it with the same options"
            )
        nulls = table[metric].is_null().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(~np.isfinite(columns[place]) & ~nulls)
        if len(wrong):
            raise InputError(
                f"{place}/evaluation/{name}: {metric} of example {one_line(ids[wrong[0]])} is not a finite number; "
                "the run may have diverged: fine-tune it again or leave it out"
            )
    measured = np.all([np.isfinite(column) for column in columns.values()], axis=0)
    if measured.sum() < 2:
        raise InputError(f"the runs share fewer than two measured examples of {one_line(name)!r}; evaluate more rows")
    rows = np.flatnonzero(measured)  # (examples that every run measured,)
    first = next(iter(tables.values())).take(rows)
    weights = None if metric == "accuracy" else _tokens(name, tables, rows)
    return SetValues(
        name,
        metric,
        [ids[row] for row in rows],
        {place: column[rows] for place, column in columns.items()},
        weights,
        _labels(first, "level"),
        _labels(first, "source"),
        total - len(rows),
    )


def _tokens(name: str, tables: dict[str, pa.Table], rows: IntArray) -> Float64Array:
    counts = {
        place: table["nll_tokens"].to_numpy(zero_copy_only=False).astype(np.float64)[rows]
        for place, table in tables.items()
    }
    place, tokens = next(iter(counts.items()))
    for other_place, other_tokens in counts.items():
        if not np.array_equal(other_tokens, tokens):
            raise InputError(
                f"{place} and {other_place} count the tokens of the answers of {one_line(name)!r} differently; "
                "evaluate both with the same tokenizer and length"
            )
    if not (tokens > 0).all():
        raise InputError(f"{place}/evaluation/{name}: an example with an nll has no tokens; evaluate it again")
    return tokens


def _labels(table: pa.Table, column: str) -> list[str | None] | None:
    """Labels of a column; None if it is absent or constant."""
    if column not in table.column_names:
        return None
    labels: list[str | None] = table[column].to_pylist()
    return labels if len(set(labels)) > 1 else None
