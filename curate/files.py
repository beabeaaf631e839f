"""Local files of rows as Arrow tables: Parquet, JSON Lines, JSON, CSV and Arrow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.errors import InputError
from curate.shapes import known_names

__all__ = ["SUFFIXES", "Read", "array_of", "data_files", "read_files", "suffix"]

_FORMATS = {
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_COMPRESSED = (".gz", ".bz2", ".zst")
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
# Files that lie beside the data of a dataset folder and describe it.
_DESCRIPTIONS = frozenset(["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "run.json"])
_SPLIT_NAME = re.compile(r"(train|test|validation|valid|val|dev|eval)(?=[-_.])", re.IGNORECASE)
_LEAST_BLOCK, _MOST_BLOCK = 16 << 20, 1 << 30  # bytes parsed at a time; a row must fit into a block


@dataclass(frozen=True)
class Read:
    """table: the rows. odd: {column: {row: value}} of cells without text in a column of text; null in the table."""

    table: pa.Table
    odd: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)


def suffix(path: Path) -> str:
    """The suffix that tells the format, compression aside: `.jsonl` of `x.jsonl.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return name.suffix.lower()


def data_files(folder: Path, split: str | None) -> tuple[list[Path], str | None]:
    """The sorted data files of a folder, and a note where only those of one split are taken.

    Files in a subfolder `data` are preferred: everything beside it describes them. Where file names start with
    names of splits (train-00000-of-00001.parquet), only those of `split` (default train) are taken.
    Raises InputError for a folder without data files, of several formats, or without that split.
    """
    for place in (folder / "data", folder):
        found = sorted(
            path
            for path in (place.iterdir() if place.is_dir() else ())
            if path.is_file() and suffix(path) in SUFFIXES and not path.name.startswith((".", "_"))
            if path.name not in _DESCRIPTIONS
        )
        if found:
            break
    else:
        raise InputError(f"folder {folder} holds no data files; they end in {', '.join(SUFFIXES)}")
    formats = sorted({_format(path) for path in found})
    if len(formats) > 1:
        raise InputError(
            f"folder {folder} mixes {' and '.join(formats)} files; name one file, or a folder of one format"
        )
    named = {path: match[1].lower() for path in found if (match := _SPLIT_NAME.match(path.name))}
    splits = sorted(set(named.values()))
    if not splits or len(named) < len(found) or (len(splits) == 1 and split is None):
        if split is not None and splits != [split]:
            raise InputError(f"folder {folder} is not divided into splits by file name; leave out split={split}")
        return found, None
    wanted = split or "train"
    if wanted not in splits:
        raise InputError(
            f"folder {folder} has no files of split {wanted!r}; it has {', '.join(splits)}: choose one of them"
        )
    return [path for path in found if named[path] == wanted], f"split {wanted} of {', '.join(splits)}"


def _format(path: Path) -> str:
    return next((name for name, suffixes in _FORMATS.items() if suffix(path) in suffixes), "")


def read_files(paths: Sequence[Path], text_columns: Sequence[str]) -> Read:
    """All rows of files of one format, in order. text_columns: further columns of CSV that hold text.

    Raises InputError naming the file (and the line, where there is one) that cannot be read, or the column whose type
    changes between files.
    """
    readers: dict[str, Callable[[Path], Read]] = {
        "parquet": _parquet,
        "arrow": _arrow,
        "json": _json,
        "csv": lambda path: _csv(path, text_columns),
    }
    parts: list[Read] = []
    for path in paths:
        if _format(path) not in readers:
            raise InputError(f"{path}: unknown format {path.suffix!r}; data files end in {', '.join(SUFFIXES)}")
        try:
            parts.append(readers[_format(path)](path))
        except PermissionError as error:
            raise InputError(f"{path} cannot be read: permission denied; change its mode") from error
    odd: dict[str, dict[int, Any]] = {}
    start = 0
    for part in parts:
        for name, cells in part.odd.items():
            odd.setdefault(name, {}).update({start + row: value for row, value in cells.items()})
        start += part.table.num_rows
    return Read(_joined([part.table for part in parts], paths), odd)


def _joined(tables: list[pa.Table], paths: Sequence[Path]) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        first = {field.name: field.type for field in tables[0].schema}
        for table, path in zip(tables[1:], paths[1:], strict=True):
            for column in table.schema:
                known = first.setdefault(column.name, column.type)
                if known != column.type and pa.null() not in (known, column.type):
                    raise InputError(
                        f"{path}: column {column.name!r} holds {column.type}, but {known} in the files before; "
                        "write both with one type"
                    ) from error
        raise InputError(f"{paths[0].parent}: the files cannot be joined ({_line(error)})") from error


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _parquet(path: Path) -> Read:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return Read(file.read())
    except (pa.ArrowException, OSError) as error:
        _raise_missing(error)
        raise InputError(f"{path} is not a readable Parquet file ({_line(error)}); fetch or write it again") from error


def _arrow(path: Path) -> Read:
    try:
        source = pa.memory_map(str(path))
        try:
            return Read(pa.ipc.open_file(source).read_all())
        except pa.ArrowInvalid:
            source.seek(0)
            return Read(pa.ipc.open_stream(source).read_all())
    except (pa.ArrowException, OSError) as error:
        _raise_missing(error)
        raise InputError(f"{path} is not a readable Arrow file ({_line(error)}); fetch or write it again") from error


def _raise_missing(error: Exception) -> None:
    # pyarrow's own errors are OSErrors too; those of the file system keep their meaning.
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
        _raise_missing(error)
        raise InputError(f"{path} cannot be read ({_line(error)}); fetch or write it again") from error
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


def _json(path: Path) -> Read:
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


def _csv(path: Path, text_columns: Sequence[str]) -> Read:
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
        raise InputError(f"{path}: {_line(numbered)}; quote cells that hold commas or line breaks") from error
