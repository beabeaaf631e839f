"""Pairs of new problems and their originals, kept and rejected, from tables/synthesis.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.console.formatting import real
from curate.report.finished_run import Finished, read_table
from curate.report.reasons import REASONS, Reason, kind_of, outcome_of
from curate.report.texts import Field, beginning, cells_at, cells_by_id, labeled
from curate.seeds import derive_seed
from curate.types import FloatArray, IntArray

KEPT_SHOWN = 10
_REFUSED_SHOWN = 3
MOST_REASONS = 20
_NUMBERS = ("source_id", "variant", "outcome", "drawn", "right", "rescored_hard", "difficulty")
_TEXTS = ("source_id", "parent_problem", "problem", "solution", "answer", "detail")


@dataclass(frozen=True)
class Attempts:
    """All m attempts. table: columns of numbers, ids and outcomes. outcome: (m,) outcomes without details."""

    path: Path
    table: pa.Table
    outcome: tuple[str, ...]

    def rows_with(self, outcome: str) -> IntArray:
        """Positions sorted by id of the original row and number of the problem, independent of the table's order."""
        ids, numbers = self.table["source_id"].to_pylist(), self.table["variant"].to_pylist()
        rows = [row for row, row_outcome in enumerate(self.outcome) if row_outcome == outcome]
        return np.array(sorted(rows, key=lambda row: (str(ids[row]), numbers[row] or 0, row)), np.int64)

    @property
    def difficulty(self) -> FloatArray:
        """(k,) difficulty of all measured new problems, whether or not they were kept."""
        values = self.table["difficulty"].cast(pa.float32()).fill_null(float("nan")).to_numpy()
        return np.asarray(values[np.isfinite(values)], np.float32)


@dataclass(frozen=True)
class Pair:
    """A new problem and its original.

    right, drawn: right solutions among sampled ones. hard, difficulty: None if it was not measured. below: fields shown
    under both, over the full width.
    """

    title: str
    identity: str
    right: int
    drawn: int
    hard: bool | None
    difficulty: float | None
    original: tuple[Field, ...]
    new: tuple[Field, ...]
    below: tuple[Field, ...]


@dataclass(frozen=True)
class Refused:
    """Problems rejected for one reason: their number and a few examples."""

    reason: Reason
    count: int
    pairs: tuple[Pair, ...]


def read_attempts(finished: Finished) -> Attempts | None:
    """Read the attempts of a run; None if it has no such table, or one of another form.

    The table has a row for every attempt; only texts that are shown are read.
    """
    path = finished.directory / "tables" / "synthesis.parquet"
    table = read_table(path, *_NUMBERS)
    if table is None or set(_NUMBERS) - set(table.column_names):
        return None
    return Attempts(path, table, tuple(outcome_of(outcome or "")[0] for outcome in table["outcome"].to_pylist()))


def kept_pairs(attempts: Attempts, seed: int) -> tuple[list[Pair], int]:
    """A seeded sample of the kept problems, hard ones first; and the number of kept problems."""
    rows = attempts.rows_with("kept")
    chosen = _sample(rows, KEPT_SHOWN, seed, "kept")
    return sorted(_pairs(attempts, chosen, {}), key=lambda pair: not pair.hard), len(rows)


def refused_pairs(finished: Finished, attempts: Attempts) -> list[Refused]:
    """A seeded sample of rejected problems for each reason, most frequent first; without requests that got no reply."""
    reasons = sorted({outcome for outcome in attempts.outcome if outcome not in ("kept", "")})
    groups = [(outcome, attempts.rows_with(outcome)) for outcome in reasons]
    groups = sorted(groups, key=lambda group: (-len(group[1]), group[0]))[:MOST_REASONS]
    chosen = {outcome: _sample(rows, _REFUSED_SHOWN, finished.seed, outcome) for outcome, rows in groups}
    all_chosen = np.concatenate([np.zeros(0, np.int64), *chosen.values()])
    replies = _replies(finished, attempts, all_chosen)
    refused = [
        Refused(kind_of(outcome, REASONS), len(rows), tuple(_pairs(attempts, chosen[outcome], replies)))
        for outcome, rows in groups
    ]
    return [group for group in refused if group.pairs]


def _sample(rows: IntArray, most: int, seed: int, name: str) -> IntArray:
    generator = np.random.default_rng(derive_seed(seed, "report", "synthesis", name))
    return rows if len(rows) <= most else generator.choice(rows, most, replace=False)


def _replies(finished: Finished, attempts: Attempts, rows: IntArray) -> dict[int, Any]:
    """Replies without a problem, from the table of rejected rows, by position of the attempt."""
    path = finished.directory / "tables" / "rejected.parquet"
    if not path.is_file():
        return {}
    ids, numbers = attempts.table["source_id"].to_pylist(), attempts.table["variant"].to_pylist()
    names = {row: f"{ids[row]}~{(numbers[row] or 0) + 1}" for row in rows.tolist()}
    cells = cells_by_id([path], list(names.values()), ["content"])
    return {row: cells[name].get("content") for row, name in names.items() if name in cells}


def _pairs(attempts: Attempts, rows: IntArray, replies: dict[int, Any]) -> list[Pair]:
    """The attempts at positions `rows`, without those that got no reply."""
    cells = cells_at(attempts.path, np.sort(rows), *_TEXTS, "outcome")
    numbers = {name: attempts.table[name].to_pylist() for name in ("drawn", "right", "rescored_hard", "difficulty")}
    pairs = (
        _pair(cells[row], {name: values[row] for name, values in numbers.items()}, replies.get(row))
        for row in rows.tolist()
    )
    return [pair for pair in pairs if pair.new]


def _pair(cells: dict[str, Any], numbers: dict[str, Any], reply: Any) -> Pair:
    """Build a pair from the text cells and numbers of one attempt. reply: shown if there is no problem."""
    problem = cells.get("problem")
    new_text = ("new problem", problem) if problem is not None else ("reply", reply)
    detail = cells.get("detail")
    if detail is None:
        detail = outcome_of(beginning(cells.get("outcome")))[1] or None
    return Pair(
        title=beginning(problem) or beginning(reply),
        identity=beginning(cells.get("source_id")),
        right=numbers["right"] or 0,
        drawn=numbers["drawn"] or 0,
        hard=numbers["rescored_hard"],
        difficulty=real(numbers["difficulty"]),
        original=tuple(labeled([("original problem", cells.get("parent_problem"))])),
        new=tuple(labeled([new_text])),
        below=tuple(
            labeled(
                [
                    ("collides with, or what the server said", detail),
                    ("answer of the original, which solutions must reach", cells.get("answer")),
                    ("a right solution", cells.get("solution")),
                ]
            )
        ),
    )
