"""Rows of the result: their order, copies and added columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.readers import Loaded
from curate.data.writers import Added, hand_back
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.copy_ids import copy_ids, like_copies, taken_by_a_copy
from curate.mixture.order import check_counts, half, in_epochs, in_front, in_turn, shuffled
from curate.mixture.plan import NewRows, Plan, Realized, realize
from curate.run import Run
from curate.storage.id_lookup import repeated
from curate.types import FloatArray, IntArray

Order = Literal["shuffle", "keep", "front"]
Copies = Literal["rows", "weights"]
WEIGHT = "weight"  # the column


def rebuild(
    data: Loaded,
    split: Split,
    plan: Plan,
    run: Run | None = None,
    *,
    order: Order = "shuffle",
    copies: Copies = "rows",
) -> Any:
    """The curated dataset in the type of the input; the last step of a manual pipeline.

    data: the result of `curate.read`. Rows that the plan demands are generated here. order, copies: see Pipeline; the
    shuffle is seeded by `run.seed`. Raises InputError if split or plan are of other rows, or in another order.
    """
    run = run or Run()
    _check_same_rows(data, split, plan)
    check_weight_column(data.examples.table, copies)
    return Mixture(data, split, plan, realize(plan, data.examples, run), order, run.seed, copies).dataset


def check_weight_column(table: pa.Table, copies: Copies) -> None:
    """Raise InputError if the input already has the column that `copies` adds."""
    if copies == "weights" and WEIGHT in table.column_names:
        raise InputError(
            f"the input has a column {WEIGHT!r}, and so has the result with copies: weights; rename or remove that of "
            "the input, or set copies: rows"
        )


@dataclass(frozen=True)
class Mixture:
    """m rows of the result: input rows with their planned copies, and the realized new rows.

    copies: "weights" = each row once, in the same order as with "rows", and its count in a column `weight`.
    order: see `curate.pipeline.Pipeline`.
    dataset: the rows in the type of the input (DataFrame, Arrow table, Dataset, DatasetDict; a Dataset for files
        and hub ids), with the columns example_id, source_id, origin, copy, difficulty, cluster, hard.
    """

    loaded: Loaded
    split: Split
    plan: Plan
    realized: list[Realized]
    order: Order
    seed: int
    copies: Copies = "rows"

    def __post_init__(self) -> None:
        check_counts(self.plan.counts)
        if self.plan.epochs > 1 and (self.order != "shuffle" or self.copies != "rows"):
            raise InputError(
                "rows that are redrawn for every epoch (Subset.epochs) already have an order; leave out order "
                "and copies"
            )

    @property
    def dataset(self) -> Any:
        return hand_back(self.loaded, self.positions, self.columns(), self.new_rows)

    @property
    def new_rows(self) -> pa.Table | None:
        """Rows that are not in the input, with the input's columns; None if there are none."""
        tables = [rows.table for rows in self._new]
        return pa.concat_tables(tables) if tables else None

    @property
    def _new(self) -> list[NewRows]:
        return [part.rows for part in self.realized if len(part.rows.ids)]

    @cached_property
    def _placed(self) -> tuple[IntArray, npt.NDArray[np.int32]]:
        """Final order: (m,) positions into the input rows followed by the new rows; (m,) number of the copy."""
        n = len(self.plan.counts)
        positions, copies = in_turn(self.plan.counts, sum(len(rows.ids) for rows in self._new))
        if self.plan.epochs > 1:
            order = in_epochs(positions, copies, self.seed, self.plan.epochs, n)
        elif self.order == "front" and self.copies == "rows":
            order = in_front(positions, copies, self.seed)
        elif self.order == "keep":
            order = None
        else:
            order = shuffled(positions, copies, self.seed)
        if order is not None:
            positions, copies = positions[order], copies[order]
        if self.copies == "weights":
            positions, copies = positions[copies == 0], copies[copies == 0]
        return positions, copies

    @property
    def parts(self) -> dict[str, int] | None:
        """{name: rows} of the parts to train on in sequence; None if the order of rows does not matter.

        There are parts with the order "front" and copies as rows, and with a plan of several epochs.
        """
        epochs, digits = self.plan.epochs, len(str(self.plan.epochs))
        if epochs > 1:
            return {f"epoch{k + 1:0{digits}}": len(range(k, len(self), epochs)) for k in range(epochs)}
        if self.order != "front" or self.copies != "rows":
            return None
        second = int((self._placed[1] == 0).sum())
        second -= half(second)
        return {"first": len(self) - second, "second": second}

    @property
    def positions(self) -> IntArray:
        """(m,) positions into the input rows followed by the new rows, in the final order."""
        return self._placed[0]

    @property
    def weights(self) -> FloatArray:
        """(m,) weight of each row: 1 with `copies` "rows", else its planned count."""
        return self._weights(self.positions)

    def _weights(self, positions: IntArray) -> FloatArray:
        weights = np.ones(len(positions), np.float32)  # (m,)
        if self.copies == "weights":
            inside = positions < len(self.plan)
            weights[inside] = self.plan.counts[positions[inside]]
        return weights

    def __len__(self) -> int:
        return len(self.positions)

    def columns(self) -> pa.Table:
        """The columns that curation adds, in the final order.

        cluster and difficulty are null for rows without a score: invalid ones, and new ones that were not measured.
        """
        return self.added.slice(0, len(self))

    @cached_property
    def added(self) -> Added:
        """The content of `columns`, computed in parts on demand."""
        self._check_ids()
        return Added(self._columns(0, 0).schema, len(self), self._columns)

    @property
    def origins(self) -> dict[str, int]:
        """{origin: rows} of the result."""
        positions, copies = self._placed
        new_rows = int((positions >= len(self.plan)).sum())
        copied = int((copies > 0).sum())
        counts = {"original": len(self) - copied - new_rows, "duplicate": copied}
        for rows in self._new:
            counts[rows.origin] = counts.get(rows.origin, 0) + len(rows)
        return counts

    def _columns(self, low: int, high: int) -> pa.Table:
        """`columns` of rows low..high-1."""
        positions, copies = self._placed[0][low:high], self._placed[1][low:high]
        n, ids = len(self.plan), self.loaded.examples.ids
        difficulty, cluster, hard, measured, scored = self._judged(positions)
        origin = (copies > 0).astype(np.int64)  # (m,)
        new = positions >= n
        origin[new] = self._new_origins[positions[new] - n]
        columns = {
            "example_id": copy_ids(_taken(ids, self._new_ids, positions), copies).cast(pa.string()),
            "source_id": _taken(ids, self._new_sources, positions).cast(pa.string()),
            "origin": pa.array(self._kinds).take(pa.array(origin)),
            "copy": pa.array(copies),
            "difficulty": pa.array(difficulty, mask=~scored),
            "cluster": pa.array(cluster, mask=~scored),
            "hard": pa.array(hard, mask=~measured),
        }
        if self.copies == "weights":
            columns[WEIGHT] = pa.array(self._weights(positions))
        for name, values in self._extras.items():
            columns[name] = values.take(pa.array(positions - n, mask=~new))
        return pa.table(columns)

    @property
    def _kinds(self) -> list[str]:
        """All origins of rows."""
        return ["original", "duplicate", *dict.fromkeys(rows.origin for rows in self._new)]

    @cached_property
    def _new_origins(self) -> IntArray:
        """(number of new rows,) index into `_kinds`."""
        kinds = self._kinds
        numbers = [kinds.index(rows.origin) for rows in self._new]
        return np.repeat(numbers, [len(rows) for rows in self._new]).astype(np.int64)

    @cached_property
    def _new_ids(self) -> pa.Array:
        return pa.array([name for rows in self._new for name in rows.ids], self.loaded.examples.ids.type)

    @cached_property
    def _new_sources(self) -> pa.Array:
        return pa.array([name for rows in self._new for name in rows.source_ids], self.loaded.examples.ids.type)

    @cached_property
    def _extras(self) -> dict[str, pa.Array]:
        """{name: cells of all new rows} of the further columns that some new rows have."""
        names = dict.fromkeys(name for rows in self._new for name in rows.extra)
        return {
            name: pa.array([value for rows in self._new for value in rows.extra.get(name, [None] * len(rows))])
            for name in names
        }

    def _judged(self, positions: IntArray) -> list[npt.NDArray[Any]]:
        """difficulty, cluster, hard, whether a row was measured, and whether it could be scored; (m,) each.

        positions: (m,) into the input rows followed by the new rows.
        """
        split, inside = self.split, positions < len(self.plan)
        old, new = positions[inside], positions[~inside] - len(self.plan)
        columns = (split.difficulty, split.cluster, split.hard, None, split.valid)
        result = []
        for column, new_values in zip(columns, self._judged_new, strict=True):
            values = np.ones(len(positions), np.bool_) if column is None else np.empty(len(positions), column.dtype)
            if column is not None:
                values[inside] = column[old]
            values[~inside] = new_values[new]
            result.append(values)
        return result

    @cached_property
    def _judged_new(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays of `_judged` for all new rows."""
        nothing = np.zeros(0, np.bool_)
        parts = [(np.zeros(0, np.float32), np.zeros(0, np.int32), nothing, nothing, nothing)]
        for rows in self._new:
            m, measured = len(rows), rows.measured
            if measured is None:
                nothing = np.zeros(m, np.bool_)
                parts.append((np.full(m, np.nan, np.float32), np.zeros(m, np.int32), nothing, nothing, nothing))
            else:
                judged = np.ones(m, np.bool_)
                parts.append((measured.difficulty, measured.cluster, measured.hard, judged, measured.cluster != -2))
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _check_ids(self) -> None:
        """Raise InputError for repeated ids in the result.

        They occur if the input has an id "a#1" and a copy of "a", or if overlapping datasets are mixed in.
        """
        ids, new, counts = self.loaded.examples.ids, self._new_ids, self.plan.counts
        ids_kept = ids if counts.all() else ids.filter(pa.array(counts > 0))
        rows = repeated(ids_kept, new)
        clash = _taken(ids_kept, new, rows[:1])[0].as_py() if len(rows) else None
        if clash is None and self.copies == "rows":
            clash = taken_by_a_copy(ids, [*like_copies(ids_kept), *like_copies(new)], counts)
        if clash is not None:
            raise InputError(
                f"example id {clash!r} names two rows of the result; rename ids that end in '#' and a number or "
                "begin with 'replay:', and mix each other dataset in only once"
            )


def _check_same_rows(data: Loaded, split: Split, plan: Plan) -> None:
    """Raise InputError if the ids of data, split and plan differ: rows are never joined by position alone."""
    ids = data.examples.ids
    remedy = "read the data once, and use that for the scores, the split and here"
    if not (len(ids) == len(split) == len(plan)):
        raise InputError(f"{len(ids):,} rows of data, {len(split):,} of the split, {len(plan):,} of the plan; {remedy}")
    if not ids.equals(split.ids):
        row = pc.index(pc.equal(ids, split.ids.cast(ids.type)), pa.scalar(False)).as_py()
        raise InputError(f"row {row} of the data is {ids[row]} but {split.ids[row]} in the split; {remedy}")


def _taken(first: pa.Array, rest: pa.Array, positions: IntArray) -> pa.Array:
    """(m,) values at positions (m,) of the concatenation of two arrays, without concatenating them."""
    later = positions >= len(first)
    if not later.any():
        return first.take(pa.array(positions))
    chosen = pa.concat_arrays(
        [first.take(pa.array(positions[~later])), rest.take(pa.array(positions[later] - len(first)))]
    )
    places = np.empty(len(positions), np.int64)
    places[np.argsort(later, kind="stable")] = np.arange(len(positions))
    return chosen.take(pa.array(places))
