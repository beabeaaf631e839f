"""The rows of the result: their order, their copies and the columns added to them."""

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
    """The curated dataset, of the kind that came in; the last step of a pipeline made by hand.

    data: what `curate.read` returned. Rows of the plan that are not in the input are made now. order, copies: see
    Pipeline; the shuffle is that of `run.seed`. Raises InputError for a split or plan of other rows, or of these in
    another order.
    """
    run = run or Run()
    _check_same_rows(data, split, plan)
    check_weight_column(data.examples.table, copies)
    return Mixture(data, split, plan, realize(plan, data.examples, run), order, run.seed, copies).dataset


def check_weight_column(table: pa.Table, copies: Copies) -> None:
    """Raise InputError where the column that `copies` adds is in the input already."""
    if copies == "weights" and WEIGHT in table.column_names:
        raise InputError(
            f"the input has a column {WEIGHT!r}, and so has the result with copies: weights; rename or remove that of "
            "the input, or set copies: rows"
        )


@dataclass(frozen=True)
class Mixture:
    """m rows: those of the input as often as planned, and the realized ones.

    copies: "weights" = rows once, in the order in which "rows" would have them, and how often in a column `weight`.
    order: see `curate.pipeline.Pipeline`.
    dataset: the rows in the kind that came in (DataFrame, Arrow table, Dataset, DatasetDict; a Dataset for files
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
                "rows that are drawn anew for every epoch (Subset.epochs) have an order of their own; leave out order "
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
            placed = in_epochs(positions, copies, self.seed, self.plan.epochs, n)
        elif self.order == "front" and self.copies == "rows":
            placed = in_front(positions, copies, self.seed)
        elif self.order == "keep":
            placed = None
        else:
            placed = shuffled(positions, copies, self.seed)
        if placed is not None:
            positions, copies = positions[placed], copies[placed]
        if self.copies == "weights":
            positions, copies = positions[copies == 0], copies[copies == 0]
        return positions, copies

    @property
    def parts(self) -> dict[str, int] | None:
        """Name -> rows of the parts that have to be trained on in turn; None where the rows have no order.

        Those of the order "front" with copies as rows, or of a plan of several epochs.
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
        """(m,) how many rows each row stands for: with `copies` "rows" itself alone, else as often as it is planned."""
        return self._weights(self.positions)

    def _weights(self, positions: IntArray) -> FloatArray:
        weights = np.ones(len(positions), np.float32)
        if self.copies == "weights":
            inside = positions < len(self.plan)
            weights[inside] = self.plan.counts[positions[inside]]
        return weights

    def __len__(self) -> int:
        return len(self.positions)

    def columns(self) -> pa.Table:
        """The columns that a curated dataset has beyond the input's, in the final order.

        cluster and difficulty are null for a row that was not scored: an invalid one, or a new one that was not
        measured.
        """
        return self.added.slice(0, len(self))

    @cached_property
    def added(self) -> Added:
        """What `columns` holds, made a part at a time."""
        self._check_ids()
        return Added(self._columns(0, 0).schema, len(self), self._columns)

    @property
    def origins(self) -> dict[str, int]:
        """Origin -> rows of the result."""
        positions, copies = self._placed
        new = int((positions >= len(self.plan)).sum())
        copied = int((copies > 0).sum())
        found = {"original": len(self) - copied - new, "duplicate": copied}
        for rows in self._new:
            found[rows.origin] = found.get(rows.origin, 0) + len(rows)
        return found

    def _columns(self, low: int, high: int) -> pa.Table:
        """`columns` of rows low..high-1."""
        positions, copies = self._placed[0][low:high], self._placed[1][low:high]
        n, ids = len(self.plan), self.loaded.examples.ids
        difficulty, cluster, hard, known, scored = self._judged(positions)
        origin = (copies > 0).astype(np.int64)
        new = positions >= n
        origin[new] = self._new_origins[positions[new] - n]
        columns = {
            "example_id": copy_ids(_taken(ids, self._new_ids, positions), copies).cast(pa.string()),
            "source_id": _taken(ids, self._new_sources, positions).cast(pa.string()),
            "origin": pa.array(self._kinds).take(pa.array(origin)),
            "copy": pa.array(copies),
            "difficulty": pa.array(difficulty, mask=~scored),
            "cluster": pa.array(cluster, mask=~scored),
            "hard": pa.array(hard, mask=~known),
        }
        if self.copies == "weights":
            columns[WEIGHT] = pa.array(self._weights(positions))
        for name, values in self._extras.items():
            columns[name] = values.take(pa.array(positions - n, mask=~new))
        return pa.table(columns)

    @property
    def _kinds(self) -> list[str]:
        """Every origin there is."""
        return ["original", "duplicate", *dict.fromkeys(rows.origin for rows in self._new)]

    @cached_property
    def _new_origins(self) -> IntArray:
        """Index into `_kinds` for each new row."""
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
        """Name -> cells of the new rows, of the columns that some of them have beyond the input's."""
        names = dict.fromkeys(name for rows in self._new for name in rows.extra)
        return {
            name: pa.array([value for rows in self._new for value in rows.extra.get(name, [None] * len(rows))])
            for name in names
        }

    def _judged(self, positions: IntArray) -> list[npt.NDArray[Any]]:
        """difficulty, cluster, hard, whether a row was judged, and whether it could be scored; each (m,), of the rows
        at these positions (m,) of the input rows followed by the new rows."""
        split, inside = self.split, positions < len(self.plan)
        old, new = positions[inside], positions[~inside] - len(self.plan)
        columns = (split.difficulty, split.cluster, split.hard, None, split.valid)
        found = []
        for column, of_new in zip(columns, self._judged_new, strict=True):
            values = np.ones(len(positions), np.bool_) if column is None else np.empty(len(positions), column.dtype)
            if column is not None:
                values[inside] = column[old]
            values[~inside] = of_new[new]
            found.append(values)
        return found

    @cached_property
    def _judged_new(self) -> tuple[npt.NDArray[Any], ...]:
        """The same of the new rows."""
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
        """Ids clash where the input already had "a#1" beside a copy of "a", or two datasets are mixed in that overlap.

        Raises InputError then.
        """
        ids, new, counts = self.loaded.examples.ids, self._new_ids, self.plan.counts
        kept = ids if counts.all() else ids.filter(pa.array(counts > 0))
        rows = repeated(kept, new)
        clash = _taken(kept, new, rows[:1])[0].as_py() if len(rows) else None
        if clash is None and self.copies == "rows":
            clash = taken_by_a_copy(ids, [*like_copies(kept), *like_copies(new)], counts)
        if clash is not None:
            raise InputError(
                f"example id {clash!r} stands for two rows of the result; rename ids that end in '#' and a number or "
                "begin with 'replay:', and mix each other dataset in only once"
            )


def _check_same_rows(data: Loaded, split: Split, plan: Plan) -> None:
    """Rows are never joined by position alone."""
    ids = data.examples.ids
    remedy = "read the data once, and use that for the scores, the split and here"
    if not (len(ids) == len(split) == len(plan)):
        raise InputError(f"{len(ids):,} rows of data, {len(split):,} of the split, {len(plan):,} of the plan; {remedy}")
    if not ids.equals(split.ids):
        row = pc.index(pc.equal(ids, split.ids.cast(ids.type)), pa.scalar(False)).as_py()
        raise InputError(f"row {row} of the data is {ids[row]} but {split.ids[row]} in the split; {remedy}")


def _taken(first: pa.Array, rest: pa.Array, positions: IntArray) -> pa.Array:
    """(m,) values at these positions of the two arrays end to end."""
    later = positions >= len(first)
    if not later.any():
        return first.take(pa.array(positions))
    both = pa.concat_arrays(
        [first.take(pa.array(positions[~later])), rest.take(pa.array(positions[later] - len(first)))]
    )
    places = np.empty(len(positions), np.int64)
    places[np.argsort(later, kind="stable")] = np.arange(len(positions))
    return both.take(pa.array(places))
