"""Read JSON Lines and JSON files as Arrow tables, with pyarrow's parser if its result is exact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.file_format import Format, Notes, TextFile
from curate.data.json_exact import exact
from curate.data.json_values import MOST_LEVELS
from curate.errors import InputError
from curate.storage.mapped import release, spilled
from curate.types import IntArray

_PIECE = 16 << 20  # bytes parsed at a time
_BLOCK = 1 << 20  # bytes looked at together: what fits a cache
_WINDOW = 1 << 16  # bytes searched at a time for the end of a line
_QUOTE, _BACKSLASH, _NEWLINE, _RETURN, _OBJECT, _LIST = b'"\\\n\r{['
_SPACES = list(b" \t\r\n")
_BEFORE_NUMBERS = list(b"-:,[ \t\r\n")
_UNDERFLOW = re.compile(rb"[0-9][eE]-0*[1-9][0-9]{2}")
_ZEROS = b"0" * 300
_INTEGER = re.compile(rb"[0-9]{16,}(?=[\s,\]}]|\Z)")

Bytes = npt.NDArray[np.uint8]
_Places = IntArray


def read_json(
    files: Iterable[TextFile], text_columns: Sequence[str] = (), delimiter: str | None = None
) -> tuple[pa.Table, Notes]:
    """The rows of one object per line, or of a list of objects, and (column, note) for unusual columns.

    Types fit the rows of all files. files: path and content of each. text_columns, delimiter: not used.
    Raises InputError with the line or item at fault.
    """
    files = list(files)
    rows = [_plain_rows(path, data) for path, data in files]
    parsed = None if None in rows else _parsed([data for _, data in files], sum(row or 0 for row in rows))
    if parsed is None:
        return exact(files)
    table, dated = parsed
    return table, [(name, f"column {name!r} is kept as text, though it looks like dates") for name in dated]


def _plain_rows(path: Path, data: pa.Buffer) -> int | None:
    """`plain_rows` of a file. Raises InputError for an empty file, and for too deep nesting with its position."""
    head = data.slice(0, min(4096, data.size)).to_pybytes().lstrip()
    if not head:
        raise InputError(f"{path} is empty; give a file with at least one row")
    levels = MOST_LEVELS + head.startswith(b"[")
    if data.size > _PIECE and (rows := _plain_rows_of_pieces(list(_pieces(data)), levels)) is not None:
        return rows
    try:
        return plain_rows(np.frombuffer(data, np.uint8), levels)
    except TooDeep as error:
        before = data.slice(0, error.place).to_pybytes()
        line, column = before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        raise InputError(
            f"{path}, line {line}, column {column}: lists and objects nest more than {MOST_LEVELS} levels deep, which "
            "readers of Parquet refuse; flatten them, or write them as text"
        ) from None


def _plain_rows_of_pieces(pieces: Sequence[pa.Buffer], most_levels: int) -> int | None:
    """`plain_rows` of pieces of whole lines, several at a time. None also if one nests too deep.

    A piece that ends outside of objects and strings is one that the next begins outside of them, so the sum is that of
    the text.
    """

    def rows_of(piece: pa.Buffer) -> int | None:
        """Run by the threads of the pool."""
        try:
            return plain_rows(np.frombuffer(piece, np.uint8), most_levels)
        except TooDeep:
            return None

    rows, together = 0, 2 * pa.cpu_count()
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        for low in range(0, len(pieces), together):
            for count in pool.map(rows_of, pieces[low : low + together]):
                if count is None:
                    return None
                rows += count
            release()
    return rows


# --- the fast parser -----------------------------------------------------------------------------------------------


def _parsed(files: Sequence[pa.Buffer], rows: int) -> tuple[pa.Table, list[str]] | None:
    """Parse texts for which `plain_rows` is not None; returns the table and the columns whose dates are kept as text.

    None if the table might differ from the texts: if a key may be missing, a number rounded, or a column of several
    types. rows: expected number of rows.
    """
    pieces = [piece for data in files for piece in _pieces(data)]
    tables = _tables(pieces, None)
    if tables is None:
        return None
    schemas = [table.schema for table in tables]
    schema = _union(schemas)
    if schema is None:
        return None
    differing = [k for k, piece_schema in enumerate(schemas) if not piece_schema.equals(schema)]
    retried = _tables([pieces[k] for k in differing], schema)
    if retried is None:
        return None
    for k, table in zip(differing, retried, strict=True):
        tables[k] = table
    joined = pa.concat_tables([table.select(schema.names) for table in tables])
    if len(joined) != rows or not all(_is_certain(chunk) for column in joined.columns for chunk in column.chunks):
        return None
    if any(_holds_doubles(field.type) for field in schema):
        in_table = sum(_long_integers(chunk) for column in joined.columns for chunk in column.chunks)
        in_files = [long_integers(np.frombuffer(data, np.uint8)) for data in files]
        if None in in_files or sum(count or 0 for count in in_files) != in_table:
            return None
    dated = {
        name
        for piece_schema in schemas
        for name in piece_schema.names
        if _undated(piece_schema.field(name).type) != piece_schema.field(name).type
    }
    return joined, [name for name in schema.names if name in dated]


def _pieces(data: pa.Buffer) -> Iterator[pa.Buffer]:
    """Cut a text into pieces of whole lines: pyarrow crashes on some texts whose types differ between its blocks."""
    content = np.frombuffer(data, np.uint8)  # (bytes,)
    low = 0
    while low < len(content):
        high = low + _PIECE
        while high < len(content):
            ends = np.flatnonzero(content[high - 1 : high + _WINDOW] == ord("\n"))
            high += int(ends[0]) if len(ends) else _WINDOW
            if len(ends):
                break
        yield data.slice(low, min(high, len(content)) - low)
        low = high


def _tables(pieces: Sequence[pa.Buffer], schema: pa.Schema | None) -> list[pa.Table] | None:
    """Parse pieces in parallel, one table each; None if one cannot be parsed."""
    parsed = 0

    def tables() -> Iterator[pa.Table]:
        """Tables in order; threads of the pool parse a few pieces ahead of the calling thread, which spills them."""
        nonlocal parsed
        for low in range(0, len(pieces), 2 * pa.cpu_count()):
            for table in pool.map(lambda piece: _table(piece, schema), pieces[low : low + 2 * pa.cpu_count()]):
                if table is None:
                    return
                parsed += 1
                yield table
            release()

    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        spilled_tables = spilled(tables())
    return spilled_tables if parsed == len(pieces) else None


def _table(piece: pa.Buffer, schema: pa.Schema | None) -> pa.Table | None:
    """Parse one piece with pyarrow; None if that fails."""
    import pyarrow.json as pj

    options = pj.ReadOptions(use_threads=False, block_size=piece.size + 1)
    try:
        table = pj.read_json(pa.BufferReader(piece), options, pj.ParseOptions(explicit_schema=schema))
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return table


# --- types -----------------------------------------------------------------------------------------------------


def _union(schemas: Sequence[pa.Schema]) -> pa.Schema | None:
    """A schema that holds the values of all pieces; None if there is none."""
    kinds: dict[str, pa.DataType | None] = {}
    for schema in schemas:
        for field in schema:
            kind = _undated(field.type)
            kinds[field.name] = _common(kinds[field.name], kind) if field.name in kinds else kind
    return None if None in kinds.values() else pa.schema(list(kinds.items()))


def _common(first: pa.DataType | None, second: pa.DataType) -> pa.DataType | None:
    """The common type of two inferred types; None if there is none."""
    if first is None or first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first) or {first, second} == {pa.int64(), pa.float64()}:
        return second if pa.types.is_null(first) else pa.float64()
    if pa.types.is_list(first) and pa.types.is_list(second):
        items = _common(first.value_type, second.value_type)
        return None if items is None else pa.list_(items)
    if pa.types.is_struct(first) and pa.types.is_struct(second) and sorted(first.names) == sorted(second.names):
        kinds = {name: _common(first.field(name).type, second.field(name).type) for name in first.names}
        return None if None in kinds.values() else pa.struct(list(kinds.items()))
    return None


def _undated(kind: pa.DataType) -> pa.DataType:
    """The type with strings in place of timestamps, which the parser infers from text that must not change."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_undated(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([child.with_type(_undated(child.type)) for child in kind])
    return kind


def _holds_doubles(kind: pa.DataType) -> bool:
    return pa.types.is_float64(kind) or any(_holds_doubles(kind.field(k).type) for k in range(kind.num_fields))


def _is_certain(array: pa.Array) -> bool:
    """Whether values are certainly those of the file: no key was added and no number is infinite."""
    if pa.types.is_struct(array.type):
        parts = array.flatten()
        return bool(parts) and all(part.null_count == array.null_count and _is_certain(part) for part in parts)
    if pa.types.is_list(array.type):
        return _is_certain(pc.list_flatten(array))
    if pa.types.is_float64(array.type):  # the parser knows more names of infinity than JSON
        return bool(np.isfinite(array.drop_null().to_numpy(zero_copy_only=False)).all())
    return True


def _long_integers(array: pa.Array) -> int:
    """How many integers of the array lie beyond 2^53."""
    if pa.types.is_int64(array.type):
        numbers = array.drop_null().to_numpy()
        return int(((numbers > 2**53) | (numbers < -(2**53))).sum())
    if pa.types.is_struct(array.type):
        return sum(map(_long_integers, array.flatten()))
    return _long_integers(pc.list_flatten(array)) if pa.types.is_list(array.type) else 0


# --- whether pyarrow's parser is safe for a text -------------------------------------------------------------------


class TooDeep(ValueError):
    """Lists and objects nest deeper than allowed, first at byte `place`."""

    def __init__(self, place: int) -> None:
        super().__init__(f"nests too deep at byte {place}")
        self.place = place


def plain_rows(data: Bytes, most_levels: int) -> int | None:
    """Number of rows if every non-empty line is one whole object and no list begins with null; else None.

    On some data for which this is None, pyarrow's parser crashes or moves values to other rows.
    data: (n,) bytes of UTF-8. Raises TooDeep if lists and objects nest deeper than `most_levels`.
    """
    rows, level, in_string = 0, 0, False
    plain = _start_lines(data, np.zeros(1, np.int64))
    for low in range(0, len(data), _BLOCK):
        if low and low % (64 * _BLOCK) == 0:
            release()
        block = data[low : low + _BLOCK]
        # (q,) positions, as those of brackets and line breaks below
        quotes = _unescaped(data, np.flatnonzero(block == _QUOTE) + low)
        folded = block | 32  # the brackets of lists become those of objects
        marks = np.flatnonzero((folded == 123) | (folded == 125)) + low  # (braces of the block,) positions
        marks = marks[(np.searchsorted(quotes, marks) + in_string) % 2 == 0]
        opens = data[marks] & 2 == 2
        levels = np.concatenate([[level], level + np.cumsum(np.where(opens, 1, -1))])  # (marks + 1,)
        if levels.max() > most_levels:
            raise TooDeep(int(marks[np.argmax(levels[1:] > most_levels)]))
        if plain:
            newlines = np.flatnonzero(block == _NEWLINE) + low  # (lines of the block,) positions
            first = marks[opens & (levels[1:] == 1)]
            rows += len(first)
            plain = (
                not levels[np.searchsorted(marks, newlines)].any()
                and not ((np.searchsorted(quotes, newlines) + in_string) % 2).any()
                and _start_lines(data, newlines + 1)
                and bool((_at(data, first[first > 0] - 1) == _NEWLINE).all())
                and _end_lines(data, marks[~opens & (levels[1:] == 0)] + 1)
                and not _begin_with_null(data, marks[data[marks] == _LIST] + 1)
            )
        level, in_string = int(levels[-1]), bool((in_string + len(quotes)) % 2)
    return rows if plain and level == 0 and not in_string else None


def _at(data: Bytes, places: _Places) -> Bytes:
    """(m,) the bytes at m positions; a newline for positions after the end."""
    characters = np.full(len(places), _NEWLINE, np.uint8)
    inside = places < len(data)
    characters[inside] = data[places[inside]]
    return characters


def _start_lines(data: Bytes, places: _Places) -> bool:
    """Whether an object begins or the line ends at each position."""
    return bool((_at(data, places) == _OBJECT).all()) or _end_lines(data, places[_at(data, places) != _OBJECT])


def _end_lines(data: Bytes, places: _Places) -> bool:
    """Whether the line ends at each position, with or without a carriage return."""
    characters = _at(data, places)
    returns = characters == _RETURN
    return bool((returns | (characters == _NEWLINE)).all() and (_at(data, places[returns] + 1) == _NEWLINE).all())


def _begin_with_null(data: Bytes, places: _Places) -> bool:
    """Whether some list begins with null. places: positions after the brackets. True after 16 spaces, to stay fast."""
    for _ in range(16):
        characters = _at(data, places)
        if (characters == ord("n")).any():
            return True
        places = places[np.isin(characters, _SPACES) & (places < len(data))] + 1
        if not len(places):
            return False
    return True


def _unescaped(data: Bytes, quotes: _Places) -> _Places:
    """The quotes that no backslash escapes: those with an even number of backslashes before them."""
    escaped = np.zeros(len(quotes), np.bool_)  # (q,)
    open_quotes = np.arange(len(quotes))  # (at most q,) quotes whose run of backslashes has not ended yet
    for length in range(1, 17):
        open_quotes = open_quotes[(quotes[open_quotes] >= length) & (data[quotes[open_quotes] - length] == _BACKSLASH)]
        if not len(open_quotes):
            break
        escaped[open_quotes] = length % 2 == 1
    for place in open_quotes.tolist():
        escaped[place] = _backslashes(data, int(quotes[place])) % 2 == 1
    return quotes[~escaped]


def _backslashes(data: Bytes, place: int) -> int:
    """Length of the run of backslashes that ends before `place`."""
    reach = 64
    while True:
        part = data[max(place - reach, 0) : place].tobytes()
        count = len(part) - len(part.rstrip(b"\\"))
        if count < len(part) or reach > place:
            return count
        reach *= 4


def long_integers(data: Bytes) -> int | None:
    """Number of integers in the text beyond 2^53; None if some number may underflow a double.

    Digits inside strings may be counted.
    """
    count = 0
    for low in range(0, len(data), _BLOCK):
        block = data[max(low - 1, 0) : low + _BLOCK + 512]  # a number at the edge is seen whole
        digits = (block - 48) < 10
        small = digits[:-2] & (block[1:-1] | 32 == ord("e")) & (block[2:] == ord("-"))
        if small.any() and _UNDERFLOW.search(block.tobytes()):
            return None
        runs = digits
        for step in (1, 2, 4, 8):  # runs of 16 digits
            runs = runs[step:] & runs[:-step]
        begins = np.flatnonzero(runs[1:] & ~digits[: max(len(runs) - 1, 0)]) + 1  # (numbers,)
        begins = begins[begins <= _BLOCK - (low == 0)]
        before = block[begins - 1]
        integers = begins[np.isin(before, _BEFORE_NUMBERS)]
        fractions = begins[(before == ord(".")) & (block[begins] == ord("0"))]
        text = block.tobytes() if len(integers) or len(fractions) else b""
        if any(text.startswith(_ZEROS, begin) for begin in fractions.tolist()):
            return None
        matches = [_INTEGER.match(text, begin) for begin in integers.tolist()]
        count += sum(len(match[0]) > 16 or int(match[0]) > 2**53 for match in matches if match)
    return count


JSON = Format(
    "JSON",
    (".jsonl", ".ndjson", ".json"),
    "one object per line, a list of objects, or objects over several lines",
    parse=read_json,
)
