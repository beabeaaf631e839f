"""Human reviews of new problems: a journal in the folder of the result, and the rows with their verdicts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import ExternalError, InputError
from curate.storage.atomic import publish_file
from curate.storage.folders import REVIEWS
from curate.storage.places import arrow_path
from curate.storage.records import check_files, read_finished

Said = Literal["accepted", "rejected", "edited", "undone"]
COLUMN = "review"
_REMEDY = "rerun the command that wrote it with --fresh"
_COLUMNS = (
    *("example_id", "source_id", "parent_problem", "problem", "solution", "answer", "drawn", "right", "rescored_hard"),
    *("second_verdicts", "difference"),
)


@dataclass(frozen=True)
class NewProblem:
    """A kept problem and its parent, from tables/synthesis.parquet."""

    example_id: str
    source_id: str
    parent_problem: str
    problem: str
    solution: str
    answer: str
    drawn: int
    right: int
    rescored_hard: bool | None = None
    second_verdicts: tuple[str, ...] = ()
    difference: float | None = None

    @property
    def digest(self) -> str:
        """16 hex digits, a hash of its texts."""
        return hashlib.blake2b(f"{self.problem}\0{self.solution}".encode(errors="replace"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Review:
    """One verdict. problem, solution: edited texts that replace the row's. at: time, ISO 8601."""

    example_id: str
    digest: str
    said: Said
    problem: str | None = None
    solution: str | None = None
    at: str = ""

    def __post_init__(self) -> None:
        """Raise TypeError for an invalid record."""
        texts = [self.example_id, self.digest, self.at, *(text for text in (self.problem, self.solution) if text)]
        if not all(isinstance(text, str) for text in texts) or self.said not in get_args(Said):
            raise TypeError("no verdict")


class Journal:
    """The verdicts of a folder. verdicts: by example id, in the order in which they were given.

    The journal is a JSON Lines file; each verdict is appended and synced before the next problem is shown, so that an
    interruption loses none. The last verdict on a row counts, unless the row's texts have changed since because the
    result was written again.
    """

    def __init__(self, directory: Path, problems: Sequence[NewProblem]) -> None:
        self.path = directory / REVIEWS
        self._digests = {problem.example_id: problem.digest for problem in problems}
        self.verdicts: dict[str, Review] = {}
        for review in _read(self.path):
            self._take(review)

    def add(self, problem: NewProblem, said: Said, /, **texts: str) -> None:
        """Record a verdict; it is on disk when this returns. Raises ExternalError if it cannot be written."""
        self._write(Review(problem.example_id, problem.digest, said, **texts))

    def _write(self, review: Review) -> None:
        review = replace(review, at=datetime.now(UTC).isoformat(timespec="seconds"))
        line = json.dumps({key: value for key, value in asdict(review).items() if value is not None})
        try:
            with self.path.open("a+b") as file:
                if file.tell() and not _ends_a_line(file):
                    file.write(b"\n")  # of a line that was cut off
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ExternalError(f"{self.path} cannot be written ({error.strerror}); make room and rerun") from error
        self._take(review)

    def undo(self) -> str | None:
        """Undo the last verdict and return its example id; None if there is none."""
        last = next(reversed(self.verdicts), None)
        if last is None:
            return None
        self._write(Review(last, self.verdicts[last].digest, "undone"))
        return last

    def count(self, said: Said) -> int:
        return sum(review.said == said for review in self.verdicts.values())

    def _take(self, review: Review) -> None:
        if self._digests.get(review.example_id) != review.digest:
            return
        self.verdicts.pop(review.example_id, None)
        if review.said != "undone":
            self.verdicts[review.example_id] = review


def kept_problems(directory: Path) -> list[NewProblem]:
    """The new problems of a finished run, in the order of the table. Raises InputError if there are none."""
    record = read_finished(directory)
    path = directory / "tables" / "synthesis.parquet"
    if not record.get("synthesis") or not path.is_file():
        raise InputError(f"{directory} holds no new problems; `curate synthesize DATA --out DIR` makes some")
    check_files(directory, record, _REMEDY, "tables/synthesis")
    table = pq.read_table(arrow_path(path))
    names = [name for name in _COLUMNS if name in table.column_names]
    rows = [row for row in table.select([*names, "outcome"]).to_pylist() if row.pop("outcome") == "kept"]
    return [NewProblem(**{**row, "second_verdicts": tuple(row.get("second_verdicts") or ())}) for row in rows]


def reviewed_rows(directory: Path, journal: Journal, *, only_accepted: bool) -> pa.Table:
    """The rows of a finished run with a column of verdicts, and edited texts in place of the generated ones.

    only_accepted: drop new problems that were neither accepted nor edited. Raises InputError if the data already has
    such a column, or was changed, or if a row does not hold the text that was edited.
    """
    record = read_finished(directory)
    check_files(directory, record, _REMEDY, "data/")
    paths = sorted((directory / "data").rglob("*.parquet"))
    tables = [pq.read_table(arrow_path(path)) for path in paths]
    table = pa.concat_tables(tables, promote_options="permissive")
    if COLUMN in table.column_names:
        raise InputError(f"the data has a column {COLUMN!r} already; rename it and run again")
    problems = {problem.example_id: problem for problem in kept_problems(directory)}
    ids = table["example_id"].to_pylist()
    verdicts = [journal.verdicts[row_id].said if row_id in journal.verdicts else None for row_id in ids]
    edited = {row: journal.verdicts[ids[row]] for row, verdict in enumerate(verdicts) if verdict == "edited"}
    for row, review in edited.items():
        table = _with_texts(table, row, problems[ids[row]], review)
    table = table.append_column(COLUMN, pa.array(verdicts, pa.string()))
    if not only_accepted:
        return table
    return table.filter(
        [
            row_id not in problems or verdict in ("accepted", "edited")
            for row_id, verdict in zip(ids, verdicts, strict=True)
        ]
    )


def write_rows(table: pa.Table, path: Path) -> None:
    """Write one Parquet file atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    publish_file(path, sink.getvalue().to_pybytes())


def _with_texts(table: pa.Table, row: int, problem: NewProblem, review: Review) -> pa.Table:
    """The table with the generated texts of one row replaced by edited ones, at any depth of its cells."""
    texts = {problem.problem: review.problem, problem.solution: review.solution}
    new = {old: text for old, text in texts.items() if text is not None and text != old}
    unfound = set(new)
    for place, field in enumerate(table.schema):
        cell = table[field.name][row].as_py()
        changed = _replaced(cell, new)
        unfound = {old for old in unfound if _replaced(cell, {old: new[old]}) == cell}
        if changed != cell:
            cell_column = pa.chunked_array([pa.array([changed], field.type)])
            column = table[field.name]
            parts = [column.slice(0, row), cell_column, column.slice(row + 1)]
            table = table.set_column(
                place, field, pa.chunked_array([c for part in parts for c in part.chunks], field.type)
            )
    if unfound:
        raise InputError(
            f"an edited text cannot take the place of the one in {problem.example_id}, whose solution is tool calls in "
            "a field of a message; take that verdict back with `curate review` (u), and accept or reject it"
        )
    return table


def _replaced(value: Any, new: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return new.get(value, value)
    if isinstance(value, list):
        return [_replaced(item, new) for item in value]
    if isinstance(value, dict):
        return {key: _replaced(item, new) for key, item in value.items()}
    return value


def _read(path: Path) -> list[Review]:
    """The verdicts of a journal, ignoring a truncated last line. Raises InputError for a file that is not a journal."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file; move it away to start over")
        lines = path.read_bytes().decode("utf-8", "replace").split("\n") if path.exists() else []
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    reviews = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        damage = f"{path} is damaged in line {number + 1}; move it away to start over"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number < len(lines) - 1 and not line.startswith('{"example_id"'):
                raise InputError(damage) from error
            continue
        try:
            reviews.append(Review(**entry))
        except TypeError as error:
            raise InputError(damage) from error
    return reviews


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
