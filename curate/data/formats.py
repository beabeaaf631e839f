"""Local files of rows as Arrow tables: Parquet, JSON Lines, JSON, CSV and Arrow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from curate.data.column_types import converted
from curate.data.csv_files import read_csv
from curate.data.joining import common_type
from curate.data.json_files import read_json
from curate.data.json_values import type_name
from curate.data.text_files import Read, first_line, raise_denied, suffix
from curate.errors import InputError

__all__ = ["SUFFIXES", "data_files", "read_files"]

_FORMATS = {
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
# Files that lie beside the data of a dataset folder and describe it.
_DESCRIPTIONS = frozenset(["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "run.json"])
_SPLIT_NAME = re.compile(r"(train|test|validation|valid|val|dev|eval)(?=[-_.])", re.IGNORECASE)


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
    readers: dict[str, Callable[[], Read]] = {
        "parquet": lambda: _joined([_parquet(path) for path in paths], paths),
        "arrow": lambda: _joined([_arrow(path) for path in paths], paths),
        "json": lambda: read_json(paths),
        "csv": lambda: read_csv(paths, text_columns),
    }
    for path in paths:
        if _format(path) not in readers:
            raise InputError(f"{path}: unknown format {path.suffix!r}; data files end in {', '.join(SUFFIXES)}")
    return readers[_format(paths[0])]()


def _joined(tables: list[pa.Table], paths: Sequence[Path]) -> Read:
    """The rows of all tables; types may differ in what does not change a value."""
    if len(tables) == 1:
        return Read(tables[0])
    known: dict[str, pa.DataType] = {}
    for table, path in zip(tables, paths, strict=True):
        for field in table.schema:
            before = known.setdefault(field.name, field.type)
            kind = common_type(before, field.type)
            if kind is None:
                here, there = type_name(field.type), type_name(before)
                raise InputError(
                    f"{path}: column {field.name!r} holds {here}, but {there} in the files before; "
                    "write both with one type"
                )
            known[field.name] = kind
    try:
        return Read(pa.concat_tables([_widened(table, known) for table in tables], promote_options="default"))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{paths[0].parent}: the files cannot be joined ({first_line(error)})") from error


def _widened(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    for k, field in enumerate(table.schema):
        kind = types[field.name]
        if field.type != kind:
            chunks = [converted(chunk, kind) for chunk in table.column(k).chunks]
            table = table.set_column(k, field.with_type(kind), pa.chunked_array(chunks, kind))
    return table


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            try:
                return file.read()
            except pa.ArrowNotImplementedError:  # dictionaries inside of lists are read one group of rows at a time
                return pa.concat_tables(file.read_row_group(k) for k in range(file.num_row_groups))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise_denied(path, error)
        raise InputError(
            f"{path} is not a readable Parquet file ({first_line(error)}); fetch or write it again"
        ) from error


def _arrow(path: Path) -> pa.Table:
    try:
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise_denied(path, error)
        raise InputError(
            f"{path} is not a readable Arrow file ({first_line(error)}); fetch or write it again"
        ) from error
