"""Text files of rows as Arrow tables: JSON Lines, JSON and CSV, with the line at fault where one cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import InputError
from curate.shapes import known_names

__all__ = ["Read", "array_of", "first_line", "raise_denied", "read_csv", "read_json", "suffix"]

_COMPRESSED = (".gz", ".bz2", ".zst")
_LEAST_BLOCK, _MOST_BLOCK = 16 << 20, 1 << 30  # bytes parsed at a time


@dataclass(frozen=True)
class Read:
    """table: the rows. odd: {column: {row: value}} of cells without text in a column of text; null in the table."""

    table: pa.Table
    odd: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)


def suffix(path: Path) -> str:
    """The suffix that tells the format, compression aside: `.jsonl` of `x.jsonl.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return name.suffix.lower()


def first_line(error: Exception) -> str:
    """The first line of a message, shortened: errors of ours are one line."""
    return str(error).strip().split("\n")[0][:200]


def raise_denied(error: Exception) -> None:
    """Raise a PermissionError as it is: pyarrow's own errors are OSErrors too, but mean a damaged file."""
    if isinstance(error, PermissionError):
        raise error


def _bytes(path: Path) -> pa.Buffer:
    """Content of a text file, decompressed, checked to be UTF-8 and without a byte order mark."""
    try:
        if path.suffix.lower() in _COMPRESSED:
            with pa.input_stream(str(path), compression="detect") as stream:
                data = stream.read_buffer()
        else:
            data = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
    except (pa.ArrowException, OSError) as error:
        raise_denied(error)
        raise InputError(f"{path} cannot be read ({first_line(error)}); fetch or write it again") from error
    offsets = pa.array([0, data.size], pa.int64()).buffers()[1]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, data]).validate(full=True)
    except pa.ArrowInvalid:
        raw = data.to_pybytes()
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise InputError(f"{path}, line {line}: not valid UTF-8; save the file as UTF-8") from error
    return data.slice(3) if data.size >= 3 and data.slice(0, 3).to_pybytes() == b"\xef\xbb\xbf" else data


def read_json(path: Path) -> Read:
    """Rows of one object per line or, in a .json file, of a list. Raises InputError naming the line or item."""
    import pyarrow.json as pj

    data = _bytes(path)
    head = data.slice(0, min(4096, data.size)).to_pybytes().lstrip()
    if not head:
        raise InputError(f"{path} is empty; give a file with at least one row")
    if head.startswith(b"[") and suffix(path) == ".json":
        return _json_list(path, data.to_pybytes())
    options = pj.ReadOptions(block_size=max(_LEAST_BLOCK, min(data.size, _MOST_BLOCK) // 16))
    try:
        table = pj.read_json(pa.BufferReader(data), read_options=options)
        dated = _without_dates(table.schema)
        if dated != table.schema:
            parse = pj.ParseOptions(explicit_schema=dated)
            table = pj.read_json(pa.BufferReader(data), read_options=options, parse_options=parse)
        return Read(table)
    except pa.ArrowInvalid:
        # Slow, but it can say which line is at fault, and keep rows whose only fault is one odd cell.
        return _json_lines(path, data.to_pybytes())


def _without_dates(schema: pa.Schema) -> pa.Schema:
    """The schema with strings where a parser took text for a point in time: the text is the data."""
    return pa.schema([column.with_type(_undated(column.type)) for column in schema])


def _undated(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_undated(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([child.with_type(_undated(child.type)) for child in kind])
    return kind


class _RepeatedKey(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return found


def _json_lines(path: Path, data: bytes) -> Read:
    records, lines = [], []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_object)
        except _RepeatedKey as error:
            raise InputError(f"{path}, line {number}: {error}; remove one of them") from error
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}); write one object per line") from error
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: holds {type(record).__name__}, not an object; write {{...}}")
        records.append(record)
        lines.append(number)
    return _from_records(records, lambda row: f"{path}, line {lines[row]}")


def _json_list(path: Path, data: bytes) -> Read:
    try:
        records = json.loads(data, object_pairs_hook=_object)
    except _RepeatedKey as error:
        raise InputError(f"{path}: {error} in one object; remove one of them") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); write a list of objects, or one object per line") from error
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(f"{path}, item {row}: holds {type(record).__name__}, not an object; write {{...}}")
    return _from_records(records, lambda row: f"{path}, item {row}")


def _from_records(records: list[dict[str, Any]], place: Callable[[int], str]) -> Read:
    names = list(dict.fromkeys(name for record in records for name in record))
    arrays, odd = [], {}
    for name in names:
        array, strange = array_of(name, [record.get(name) for record in records], place)
        arrays.append(array)
        if strange:
            odd[name] = strange
    return Read(pa.table(dict(zip(names, arrays, strict=True))), odd)


def array_of(name: str, values: list[Any], place: Callable[[int], str]) -> tuple[pa.Array, dict[int, Any]]:
    """Column of Python values, and {row: value} of those that are not (UTF-8) strings in a column of strings.

    place: names a row in messages. Raises InputError where the other values do not share a type.
    """
    try:
        return pa.array(values), {}
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        pass
    odd = {row: value for row, value in enumerate(values) if value is not None and not _is_string(value)}
    if len(odd) < sum(value is not None for value in values):
        kept = [None if row in odd else value for row, value in enumerate(values)]
        return pa.array(kept, pa.large_string()), odd
    good, bad = 0, len(values)
    while bad - good > 1:  # the shortest prefix that cannot be converted ends in the row at fault
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _converts(values[:middle]) else (good, middle)
    kind = type(values[bad - 1]).__name__
    raise InputError(f"{place(bad - 1)}: column {name!r} holds {kind} that does not fit the rows before; use one type")


def _is_string(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _converts(values: list[Any]) -> bool:
    try:
        pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return False
    return True


def read_csv(path: Path, text_columns: Sequence[str]) -> Read:
    """Rows below a header. text_columns: columns of text beside those that go by a known name."""
    import pyarrow.csv as pv

    data = _bytes(path)
    if not data.size:
        raise InputError(f"{path} is empty; give a file with a header and at least one row")
    parse = pv.ParseOptions(delimiter="\t" if suffix(path) == ".tsv" else ",", newlines_in_values=True)
    known = {name.casefold() for name in [*known_names(), *text_columns]}

    def read(texts: Sequence[str], threads: bool = True) -> pa.Table:
        block = max(_LEAST_BLOCK, min(data.size, _MOST_BLOCK) // 16)
        return pv.read_csv(
            pa.BufferReader(data),
            read_options=pv.ReadOptions(block_size=block, use_threads=threads),
            parse_options=parse,
            # Numbers in a column of text stay the text they were written as ("007", "1.50").
            convert_options=pv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
        )

    try:
        options = pv.ReadOptions(block_size=_LEAST_BLOCK)
        header = pv.open_csv(pa.BufferReader(data), read_options=options, parse_options=parse).schema.names
        texts = [name for name in header if name.casefold() in known]
        table = read(texts)
        dated = [column.name for column in table.schema if pa.types.is_temporal(column.type)]
        return Read(read([*texts, *dated]) if dated else table)
    except pa.ArrowInvalid as error:
        numbered = error
        try:
            read([], threads=False)  # only one thread can number the rows in its messages
        except pa.ArrowInvalid as again:
            numbered = again
        raise InputError(f"{path}: {first_line(numbered)}; quote cells that hold commas or line breaks") from error
