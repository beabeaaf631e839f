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
from curate.data.writers import hand_back
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.plan import NewRows, Plan, Realized, realize
from curate.run import Run
from curate.seeds import derive_seed
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
        counts = self.plan.counts.astype(np.int64)
        n = len(counts)
        new = sum(len(rows.ids) for rows in self._new)
        positions = np.concatenate([np.repeat(np.arange(n), counts), np.arange(n, n + new)])
        first = np.concatenate(
            [np.repeat(np.cumsum(counts) - counts, counts), np.arange(len(positions) - new, len(positions))]
        )
        copies = (np.arange(len(positions)) - first).astype(np.int32)
        if self.plan.epochs > 1:
            placed = self._in_epochs(positions, copies)
            positions, copies = positions[placed], copies[placed]
        elif self.order == "front" and self.copies == "rows":
            placed = self._in_front(copies)
            positions, copies = positions[placed], copies[placed]
        elif self.order != "keep":
            shuffled = np.random.default_rng(derive_seed(self.seed, "order")).permutation(len(positions))
            positions, copies = positions[shuffled], copies[shuffled]
        if self.copies == "weights":
            positions, copies = positions[copies == 0], copies[copies == 0]
        return positions, copies

    def _in_front(self, copies: npt.NDArray[np.int32]) -> IntArray:
        """(m,) the order "front" of rows with these numbers (m,) of their copies.

        The first part: half of the rows themselves, drawn, and every copy, in random order. The second: the others.
        A copy may stand before its row, or in the part without it: the second part has to be a fair sample of the rows
        themselves.
        """
        generator = np.random.default_rng(derive_seed(self.seed, "order"))
        themselves = generator.permutation(np.flatnonzero(copies == 0))
        first, second = np.split(themselves, [_half(len(themselves))])
        return np.concatenate([generator.permutation(np.concatenate([first, np.flatnonzero(copies > 0)])), second])

    def _in_epochs(self, positions: IntArray, copies: npt.NDArray[np.int32]) -> IntArray:
        """(m,) the order by epochs, each shuffled.

        Rows are dealt out in random order, one to each epoch in turn, and all times that one is planned after another:
        so it stands in different epochs, each is a random draw of the rows, and all are of one size. New rows are dealt
        out after the others, so that their rate is the same in every epoch.
        """
        generator = np.random.default_rng(derive_seed(self.seed, "order"))
        rank = generator.permutation(int(positions.max(initial=-1)) + 1)[positions]  # (m,)
        dealt = np.lexsort((copies, rank, positions >= len(self.plan.counts)))
        epoch = np.empty(len(positions), np.int64)
        epoch[dealt] = np.arange(len(positions)) % self.plan.epochs
        shuffled = generator.permutation(len(positions))
        return shuffled[np.argsort(epoch[shuffled], kind="stable")]

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
        second -= _half(second)
        return {"first": len(self) - second, "second": second}

    @property
    def positions(self) -> IntArray:
        """(m,) positions into the input rows followed by the new rows, in the final order."""
        return self._placed[0]

    @property
    def weights(self) -> FloatArray:
        """(m,) how many rows each row stands for: with `copies` "rows" itself alone, else as often as it is planned."""
        weights = np.ones(len(self), np.float32)
        if self.copies == "weights":
            inside = self.positions < len(self.plan.counts)
            weights[inside] = self.plan.counts[self.positions[inside]]
        return weights

    def __len__(self) -> int:
        return len(self.positions)

    def columns(self) -> pa.Table:
        """The columns that a curated dataset has beyond the input's, in the final order.

        cluster and difficulty are null for a row that was not scored: an invalid one, or a new one that was not
        measured.
        """
        positions, copies = self._placed
        n = len(self.plan.counts)
        ids = self.loaded.examples.ids
        new = self._new
        every_id = _joined(ids, [rows.ids for rows in new])
        every_source = _joined(ids, [rows.source_ids for rows in new])
        difficulty, cluster, hard, known, scored = self._judged()
        kinds = ["original", "duplicate", *dict.fromkeys(rows.origin for rows in new)]
        origin = np.where(copies > 0, 1, 0)
        start = n
        for rows in new:
            origin[(positions >= start) & (positions < start + len(rows.ids))] = kinds.index(rows.origin)
            start += len(rows.ids)
        columns = {
            "example_id": _numbered(every_id.take(pa.array(positions)), copies),
            "source_id": every_source.take(pa.array(positions)),
            "origin": pa.array(kinds).take(pa.array(origin)),
            "copy": pa.array(copies),
            "difficulty": pa.array(difficulty[positions], mask=~scored[positions]),
            "cluster": pa.array(cluster[positions], mask=~scored[positions]),
            "hard": pa.array(hard[positions], mask=~known[positions]),
        }
        if self.copies == "weights":
            columns[WEIGHT] = pa.array(self.weights)
        _check_ids(columns["example_id"])
        for name in dict.fromkeys(name for rows in new for name in rows.extra):
            columns[name] = self._extra(name, new, positions)
        return pa.table(columns)

    def _judged(self) -> tuple[npt.NDArray[Any], ...]:
        """difficulty, cluster, hard, whether a row was judged, and whether it could be scored; each (n + new,), of the
        input rows followed by the new rows."""
        split = self.split
        parts = [(split.difficulty, split.cluster, split.hard, np.ones(len(split.valid), np.bool_), split.valid)]
        for rows in self._new:
            m, measured = len(rows), rows.measured
            if measured is None:
                nothing = np.zeros(m, np.bool_)
                parts.append((np.full(m, np.nan, np.float32), np.zeros(m, np.int32), nothing, nothing, nothing))
            else:
                judged = np.ones(m, np.bool_)
                parts.append((measured.difficulty, measured.cluster, measured.hard, judged, measured.cluster != -2))
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _extra(self, name: str, new: list[NewRows], positions: IntArray) -> pa.Array:
        values = [value for rows in new for value in rows.extra.get(name, [None] * len(rows.ids))]
        n = len(self.plan.counts)
        return pa.array(values).take(pa.array(positions - n, mask=positions < n))


def _half(rows: int) -> int:
    return (rows + 1) // 2


def _check_same_rows(data: Loaded, split: Split, plan: Plan) -> None:
    """Rows are never joined by position alone."""
    ids = data.examples.ids
    remedy = "read the data once, and use that for the scores, the split and here"
    if not (len(ids) == len(split) == len(plan)):
        raise InputError(f"{len(ids):,} rows of data, {len(split):,} of the split, {len(plan):,} of the plan; {remedy}")
    if not ids.equals(split.ids):
        row = pc.index(pc.equal(ids, split.ids.cast(ids.type)), pa.scalar(False)).as_py()
        raise InputError(f"row {row} of the data is {ids[row]} but {split.ids[row]} in the split; {remedy}")


def _check_ids(ids: pa.Array) -> None:
    """Ids clash where the input already had "a#1" beside a copy of "a", or two datasets are mixed in that overlap."""
    if len(ids) == pc.count_distinct(ids).as_py():
        return
    counted = pc.value_counts(ids)
    clash = next(each["values"].as_py() for each in counted if each["counts"].as_py() > 1)
    raise InputError(
        f"example id {clash!r} stands for two rows of the result; rename ids that end in '#' and a number or begin "
        "with 'replay:', and mix each other dataset in only once"
    )


def _joined(first: pa.Array, others: list[list[str]]) -> pa.Array:
    chunks = [first, *(pa.array(values, first.type) for values in others)]
    return pa.concat_arrays(chunks) if others else first


def _numbered(ids: pa.Array, copies: npt.NDArray[np.int32]) -> pa.Array:
    """`id` for the row itself, `id#c` for its c-th copy."""
    number = pc.cast(pa.array(copies), pa.string()).cast(ids.type)
    copied = pc.binary_join_element_wise(ids, number, pa.scalar("#", ids.type))
    return pc.if_else(pa.array(copies > 0), copied, ids)
