"""The result of a pipeline: which rows, in which order, and what is known about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.plan import Plan, Realized
from curate.scores import Scores, Split
from curate.seeds import derive_seed

if TYPE_CHECKING:
    from curate.diagnostics import Diagnostics
    from curate.pipeline import Pipeline
    from curate.readers import Loaded
    from curate.run import Run

__all__ = ["Curated", "Stages"]


@dataclass(frozen=True)
class Stages:
    """Fingerprint of what each stage made."""

    data: str
    scores: str
    split: str
    plan: str


@dataclass
class Curated:
    """A curated dataset and how it came about.

    dataset: the curated rows, of the kind that came in (DataFrame, Arrow table, Dataset, DatasetDict; a Dataset
        for files and hub ids), with the columns example_id, source_id, origin, copy, difficulty, cluster, hard.
    """

    pipeline: Pipeline
    loaded: Loaded
    run: Run
    scores: Scores
    split: Split
    diagnostics: Diagnostics
    plan: Plan
    realized: list[Realized]
    stages: Stages
    given_scores: bool = False

    @property
    def proxy_facts(self) -> dict[str, Any] | None:
        """What is worth reporting about the proxy run; None where no proxy was run."""
        return None if self.given_scores else self.run.facts(self.loaded.examples)

    @property
    def dataset(self) -> Any:
        from curate.writers import hand_back

        return hand_back(self.loaded, self.positions, self.columns(), self.new_rows)

    def write(self, directory: Path | str) -> Path:
        """The full output of `curate run` in a folder; see `curate.output`."""
        from curate.output import write_output

        return write_output(self, Path(directory))

    @property
    def new_rows(self) -> pa.Table | None:
        """Rows that are not in the input, with the input's columns; None if there are none."""
        tables = [part.rows.table for part in self.realized if len(part.rows.ids)]
        return pa.concat_tables(tables) if tables else None

    @cached_property
    def _placed(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Final order: (m,) positions into the input rows followed by the new rows; (m,) number of the copy."""
        n, counts = len(self.plan), self.plan.counts.astype(np.int64)
        new = sum(len(part.rows.ids) for part in self.realized)
        positions = np.concatenate([np.repeat(np.arange(n), counts), np.arange(n, n + new)])
        first = np.concatenate(
            [np.repeat(np.cumsum(counts) - counts, counts), np.arange(len(positions) - new, len(positions))]
        )
        copies = (np.arange(len(positions)) - first).astype(np.int32)
        if self.pipeline.order == "shuffle":
            order = np.random.default_rng(derive_seed(self.pipeline.seed, "order")).permutation(len(positions))
            positions, copies = positions[order], copies[order]
        return positions, copies

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        return self._placed[0]

    def __len__(self) -> int:
        return len(self.positions)

    def columns(self) -> pa.Table:
        """The columns that a curated dataset has beyond the input's, in the final order."""
        positions, copies = self._placed
        n = len(self.plan)
        ids = self.loaded.examples.ids
        new = [part.rows for part in self.realized if len(part.rows.ids)]
        every_id = _joined(ids, [rows.ids for rows in new])
        every_source = _joined(ids, [rows.source_ids for rows in new])
        old = positions < n
        row = np.where(old, positions, 0)
        unknown = ~old | ~self.split.valid[row]
        kinds = pa.array(["original", "duplicate", *dict.fromkeys(rows.origin for rows in new)])
        origin = np.where(copies > 0, 1, 0)
        start = n
        for rows in new:
            code = kinds.to_pylist().index(rows.origin)
            origin[(positions >= start) & (positions < start + len(rows.ids))] = code
            start += len(rows.ids)
        columns = {
            "example_id": _numbered(every_id.take(pa.array(positions)), copies),
            "source_id": every_source.take(pa.array(positions)),
            "origin": kinds.take(pa.array(origin)),
            "copy": pa.array(copies),
            "difficulty": pa.array(self.split.difficulty[row], mask=unknown),
            "cluster": pa.array(self.split.cluster[row], mask=unknown),
            "hard": pa.array(self.split.hard[row], mask=~old),
        }
        self._check_ids(columns["example_id"], copies)
        for name in dict.fromkeys(name for rows in new for name in rows.extra):
            columns[name] = self._extra(name, new, positions)
        return pa.table(columns)

    def _extra(self, name: str, new: list[Any], positions: npt.NDArray[np.int64]) -> pa.Array:
        values = [value for rows in new for value in rows.extra.get(name, [None] * len(rows.ids))]
        n = len(self.plan)
        return pa.array(values).take(pa.array(positions - n, mask=positions < n))

    def _check_ids(self, ids: pa.Array, copies: npt.NDArray[np.int32]) -> None:
        """A copy's id may only clash with an id that the input already had, such as "a#1" beside a copy of "a"."""
        if len(ids) != pc.count_distinct(ids).as_py():
            counted = pc.value_counts(ids)
            clash = next(each["values"].as_py() for each in counted if each["counts"].as_py() > 1)
            raise InputError(
                f"example id {clash!r} stands for two rows of the result; rename ids that end in '#' and a number, "
                "or leave the id column out"
            )

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Every row that is not in the result, or could not be used, with its stage and reason."""
        ids = self.loaded.examples.ids
        yield from self.loaded.rejected
        for row in np.flatnonzero(~self.split.valid).tolist():
            yield _record(
                row, ids[row].as_py(), "score", "no completion text within max_length (kept once, not clustered)"
            )
        for row in np.flatnonzero(self.plan.reason >= 0).tolist():
            yield _record(row, ids[row].as_py(), "plan", self.plan.reasons[self.plan.reason[row]])
        for part in self.realized:
            yield from part.rejected


def _record(row: int | None, example_id: str, stage: str, reason: str) -> dict[str, Any]:
    return {"row": row, "example_id": example_id, "stage": stage, "reason": reason, "content": None}


def _joined(first: pa.Array, others: list[list[str]]) -> pa.Array:
    chunks = [first, *(pa.array(values, first.type) for values in others)]
    return pa.concat_arrays(chunks) if others else first


def _numbered(ids: pa.Array, copies: npt.NDArray[np.int32]) -> pa.Array:
    """`id` for the row itself, `id#c` for its c-th copy."""
    number = pc.cast(pa.array(copies), pa.string()).cast(ids.type)
    copied = pc.binary_join_element_wise(ids, number, pa.scalar("#", ids.type))
    return pc.if_else(pa.array(copies > 0), copied, ids)
