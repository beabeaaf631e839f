"""The sections "Examples" and "Rejected rows": easiest and hardest rows, noise suspects, and rejected rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.data.json_text import loads
from curate.report.finished_run import (
    Finished,
    Rows,
    cut_text,
    doubtful_rows,
    id_array,
    look_up,
    mapping,
    numbered,
    read_table,
    shards,
    spread,
)
from curate.report.reasons import outcome_of
from curate.storage.places import arrow_path
from curate.types import BoolArray, IntArray

# Only cells that are shown are kept, and only their beginning is decoded, so that a million rows or cells of many
# megabytes cost little more than a small dataset.

_EXAMPLES = 20
_SUSPECTS = 10
_BATCH_BYTES = 32_000_000
_CELL_BYTES = 16_000  # most bytes decoded of a cell; enough for _FIELD_CHARACTERS in any script
_FIELD_CHARACTERS = 2_000
_EXAMPLE_CHARACTERS = 4_000  # of all fields together, so that 40 examples stay a small part of the page
# Stages whose reasons name what a row collided with; the detail is dropped, so that equal reasons are counted together.
_DETAILED = ("synthesize", "synthesise", "gate")  # "synthesise" is from earlier releases
_ROLES = (
    "system",
    "instruction",
    "prompt",
    "input",
    "messages",
    "text",
    "completion",
    "output",
    "chosen",
    "rejected",
    "final_answer",
)
SYSTEM_ROLES = ("system", "developer")  # of turns that many rows may share, and so name none of them


@dataclass(frozen=True)
class Cell:
    """A text cell. text: at most about _CELL_BYTES of it. size: of the whole cell in bytes."""

    text: str
    size: int


@dataclass(frozen=True)
class Field:
    """One labeled text of an example. note: says so if it was cut, else ""."""

    label: str
    text: str
    note: str


@dataclass(frozen=True)
class Example:
    """A row to show. fields: empty if its text is not in the output. copies: planned occurrences, None if unknown."""

    rank: int
    identity: str
    difficulty: float
    hard: bool
    source: str
    copies: int | None
    suspect: bool
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Rejection:
    """Rows rejected by one stage for one reason. examples: the first few as (row, example_id, content).

    row: position in the input, None for rows that are not from the input.
    """

    stage: str
    reason: str
    rows: int
    examples: tuple[tuple[int | None, str, Field], ...]


def extremes(finished: Finished, rows: Rows) -> tuple[list[Example], list[Example], list[Example], list[Example]]:
    """(easiest rows, hardest rows, noise suspects, doubtful rows) to show.

    Easiest and hardest valid rows, most extreme first, ties in the order of the split; _SUSPECTS noise suspects, evenly
    spaced from the hardest to the easiest; and, instead of these if more than 5 % of the hard rows are wrong by the
    lower bound, _EXAMPLES hard rows that are not reducible.
    """
    scored = np.flatnonzero(rows.valid)
    low = scored[np.argsort(rows.difficulty[scored], kind="stable")[:_EXAMPLES]]
    order = scored[np.argsort(-rows.difficulty[scored], kind="stable")]
    high, flat = order[:_EXAMPLES], spread(order, rows.noise_suspect, _SUSPECTS)
    columns = content_columns(finished)
    doubtful = doubtful_rows(finished, rows)
    first, flat = spread(order, doubtful, _EXAMPLES), flat if doubtful is None else flat[:0]
    identities = rows.ids.take(pa.array(np.unique(np.concatenate([low, high, flat, first])))).to_pylist()
    cells = cells_by_id(shards(finished.directory), identities, list(columns))

    def shown(part: IntArray) -> list[Example]:
        return [_example(rows, row, rank, cells, columns) for rank, row in enumerate(part.tolist(), 1)]

    return shown(low), shown(high), shown(flat), shown(first)


def _example(rows: Rows, row: int, rank: int, cells: dict[str, dict[str, Any]], columns: dict[str, str]) -> Example:
    """Build the example of one row from its cells. rank: position in its list, from 1."""
    identity = rows.ids[row].as_py()
    fields = labeled([(role, cells.get(identity, {}).get(column)) for column, role in columns.items()])
    source = -1 if rows.source is None else int(rows.source[row])
    return Example(
        rank=rank,
        identity=identity,
        difficulty=float(rows.difficulty[row]),
        hard=bool(rows.hard[row]),
        source="" if source < 0 else rows.source_names[source],
        copies=None if rows.copies is None else int(rows.copies[row]),
        suspect=rows.noise_suspect is not None and bool(rows.noise_suspect[row]),
        fields=tuple(fields),
    )


def content_columns(finished: Finished) -> dict[str, str]:
    """{column: role} of the columns whose texts are shown."""
    roles = mapping(finished.run, "data", "columns")
    return {roles[role]: role for role in _ROLES if isinstance(roles.get(role), str)}


def cells_by_id(files: Iterable[Path], identities: list[str], columns: list[str]) -> dict[str, dict[str, Any]]:
    """{example_id: {column: cell}} of the wanted rows; rows that are not in the files are absent."""
    cells: dict[str, dict[str, Any]] = {}
    wanted_ids = pa.array(identities, pa.large_string())
    for path in files:
        with pq.ParquetFile(arrow_path(path)) as file:
            present = [name for name in columns if name in file.schema_arrow.names]
            for group in range(file.num_row_groups):
                ids = id_array(file.read_row_group(group, columns=["example_id"]))
                rows = np.flatnonzero(pc.is_in(ids, value_set=wanted_ids).to_numpy(zero_copy_only=False))
                if len(rows):
                    batches = file.iter_batches(_batch_rows(file, group), row_groups=[group], columns=present)
                    cells.update(zip(ids.take(pa.array(rows)).to_pylist(), _picked(batches, rows), strict=True))
    return cells


def cells_at(path: Path, rows: IntArray, *columns: str) -> dict[int, dict[str, Any]]:
    """{position: {column: cell}} of the rows at ascending positions, for those of `columns` that the file has."""
    with pq.ParquetFile(arrow_path(path)) as file:
        present = [name for name in columns if name in file.schema_arrow.names]
        size = min((_batch_rows(file, group) for group in range(file.num_row_groups)), default=1)
        return dict(zip(rows.tolist(), _picked(file.iter_batches(size, columns=present), rows), strict=True))


def _batch_rows(file: pq.ParquetFile, group: int) -> int:
    """Number of rows of a row group that decode to about _BATCH_BYTES."""
    metadata = file.metadata.row_group(group)
    return max(1, min(8_192, _BATCH_BYTES * metadata.num_rows // max(metadata.total_byte_size, 1)))


def _picked(batches: Iterable[pa.RecordBatch], rows: IntArray) -> Iterator[dict[str, Any]]:
    """The cells of the rows at ascending positions `rows` in a stream of batches."""
    start = 0
    for batch in batches:
        for row in (rows[(rows >= start) & (rows < start + len(batch))] - start).tolist():
            yield {name: _cell(batch.column(name)[row]) for name in batch.schema.names}
        start += len(batch)


def _cell(scalar: pa.Scalar) -> Any:
    """A Cell for text, the Python value for other types, None for null."""
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.StringScalar | pa.LargeStringScalar):
        return Cell(cut_text(scalar, _CELL_BYTES), scalar.as_buffer().size)
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return f"[not valid UTF-8: {error.reason}]"
    except (ValueError, OverflowError):  # Python's dates end in the year 9999, and Arrow's do not
        return "[a value that Python cannot hold]"


def labeled(values: Iterable[tuple[str, Any]]) -> list[Field]:
    """The (role, cell) pairs as labeled texts, cut so that one example cannot fill the page."""
    fields: list[Field] = []
    left = _EXAMPLE_CHARACTERS
    for role, value in values:
        for label, cell in [] if value is None else texts_of(role, value):
            if left <= 0:
                return [*fields, Field("more", "", "The rest of this example is not shown.")]
            fields.append(_field(label, cell, min(_FIELD_CHARACTERS, left)))
            left -= max(len(fields[-1].text), 1)
    return fields


def beginning(cell: Any) -> str:
    """The beginning of a text cell; "" for anything else."""
    return cell.text if isinstance(cell, Cell) else ""


def _field(label: str, cell: Cell, limit: int) -> Field:
    text = cell.text[:limit]
    if len(text) == len(cell.text) and cell.size <= _CELL_BYTES:
        return Field(label, text, "")
    size = f"{cell.size / 1e6:.1f} MB" if cell.size >= 1e6 else f"{cell.size / 1e3:.1f} kB"
    return Field(label, text, f"Cut: the first {len(text):,} characters of {size}.")


def texts_of(role: str, value: Any) -> Iterator[tuple[str, Cell]]:
    """(label, text) of one cell; a list of messages gives one text per message."""
    if isinstance(value, Cell):
        yield role, value
    elif isinstance(value, list):
        for turn in (
            loads(message) if isinstance(message, str) and message[:1] == "{" else message for message in value
        ):
            who = look_up(turn, "role") or look_up(turn, "from") or role
            content = look_up(turn, "content") or look_up(turn, "value")
            yield str(who), _whole(content if isinstance(content, str) else _plain(turn))
    else:
        yield role, _whole(_plain(value))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _whole(text: str) -> Cell:
    return Cell(text[:_CELL_BYTES], len(text.encode("utf-8", "replace")))


def rejections(finished: Finished, most: int, examples: int) -> tuple[list[Rejection], int] | str:
    """The `most` most frequent (stage, reason) pairs with `examples` rows each, and the number of pairs.

    A text that says why if there are none.
    """
    path = finished.directory / "tables" / "rejected.parquet"
    table = read_table(path, "stage", "reason")
    if table is None:
        return "This folder has no tables/rejected.parquet."
    if not len(table):
        return "No row was rejected."
    stage, stages = numbered(table["stage"])
    reason, reasons = _without_details(*numbered(table["reason"]), np.isin(stage, _codes(stages, _DETAILED)))
    codes = (stage + 1) * (len(reasons) + 1) + reason + 1
    pairs, pair, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    frequent = np.lexsort((pairs, -sizes))[:most].tolist()
    rows_shown = {i: np.flatnonzero(pair == i)[:examples] for i in frequent}
    rows = np.sort(np.concatenate([*rows_shown.values(), np.zeros(0, np.int64)]))
    cells = cells_at(path, rows, "row", "example_id", "content")
    return [
        Rejection(
            stage=("", *stages)[pairs[i] // (len(reasons) + 1)],
            reason=("", *reasons)[pairs[i] % (len(reasons) + 1)],
            rows=int(sizes[i]),
            examples=tuple(_rejected(cells[row]) for row in rows_shown[i].tolist()),
        )
        for i in frequent
    ], len(pairs)


def _codes(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    return [number for number, name in enumerate(names) if name in wanted]


def _without_details(codes: IntArray, names: tuple[str, ...], rows: BoolArray) -> tuple[IntArray, tuple[str, ...]]:
    """(codes, names) of reasons in which those of the marked `rows` (n,) have no details. codes: (n,) into names."""
    short = [outcome_of(name)[0] for name in names]
    all_names = tuple(dict.fromkeys([*names, *short]))
    number = {name: code for code, name in enumerate(all_names)}
    shortened = np.array([number[name] for name in short] or [-1], np.int64)
    return np.where(rows & (codes >= 0), shortened[codes], codes), all_names


def _rejected(cells: dict[str, Any]) -> tuple[int | None, str, Field]:
    content = cells.get("content")
    cell = content if isinstance(content, Cell) else _whole("" if content is None else _plain(content))
    return cells.get("row"), beginning(cells.get("example_id")), _field("content", cell, 600)


def title(fields: Iterable[Field]) -> str:
    """The first text of an example that is not a system prompt; "" if there is none."""
    return next((field.text for field in fields if field.label not in SYSTEM_ROLES), "")


def first_words(finished: Finished, rows: Rows, positions: IntArray) -> list[str]:
    """The beginning of the first text of the rows at positions (m,); "" for rows that are not in the output."""
    columns = content_columns(finished)
    if not columns:
        return [""] * len(positions)
    identities = rows.ids.take(pa.array(positions)).to_pylist()
    first = next((name for name, role in columns.items() if role != "system"), next(iter(columns)))
    cells = cells_by_id(shards(finished.directory), identities, [first])
    return [_words(columns[first], cells.get(identity, {}).get(first)) for identity in identities]


def _words(role: str, value: Any) -> str:
    """The text of a cell; of a conversation, that of its first user turn."""
    texts = [] if value is None else list(texts_of(role, value))
    first_user_text = next((cell.text for label, cell in texts if label == "user"), None)
    return first_user_text if first_user_text is not None else texts[0][1].text if texts else ""
