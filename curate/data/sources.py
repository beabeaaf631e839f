"""Whatever names or holds a dataset, opened as one Arrow table; local files are read here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curate.data.column_types import check_buffers, conformed
from curate.data.csv_files import read_csv
from curate.data.joining import joined
from curate.data.json_files import read_json
from curate.data.objects import from_dataset, from_dataset_dict, from_disk, from_hub, from_pandas
from curate.data.repositories import split_files
from curate.data.wording import first_line, nearest_path
from curate.errors import InputError
from curate.storage.places import expanded

Kind = Literal["file", "hub", "pandas", "table", "dataset", "dataset_dict"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FORMATS = {
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
_COMPRESSED = (".gz", ".bz2", ".zst")


@dataclass(frozen=True)
class Opened:
    """The rows of one input before any filter.

    original: the object that came in, None for files and the hub. split: name of the split that was read, where
    there are several. note: a line to show to the user. column_notes: columns that are kept in another form than
    usual, each with a line that says so. plain: every column holds text, numbers, or lists and objects of these, and
    all text is UTF-8; then nothing in it needs to be opened, and no cell is at fault but for being null.
    """

    table: pa.Table
    description: str
    kind: Kind
    original: Any = None
    split: str | None = None
    note: str | None = None
    column_notes: Sequence[tuple[str, str]] = ()
    plain: bool = False


def open_data(data: Any, roles: Mapping[str, str], split: str | None, config: str | None) -> Opened:
    """All rows of `data`, see `curate.data.readers.read`, in columns that the result can hold.

    roles: columns of CSV named here are text.
    """
    opened = _open(data, roles, split, config)
    if _is_plain(opened.table):
        return replace(opened, plain=True)
    check_buffers(opened.table, opened.description)
    table, notes = conformed(opened.table, opened.description)
    return replace(opened, table=table, column_notes=[*opened.column_notes, *notes])


_INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_PLAIN = frozenset([pa.null(), pa.bool_(), pa.string(), pa.large_string(), pa.float32(), pa.float64(), *_INTEGERS])


def _is_plain(table: pa.Table) -> bool:
    """Whether `check_buffers` and `conformed` have nothing to do, and all text is UTF-8."""
    try:
        table.validate(full=True)
        return _is_plain_type(pa.struct(list(table.schema)))
    except (pa.ArrowException, NotImplementedError, UnicodeDecodeError):
        return False


def _is_plain_type(kind: pa.DataType, levels: int = 8) -> bool:
    """levels: how deep lists and objects may nest, well within what Parquet takes."""
    if not kind.num_fields:
        return kind in _PLAIN
    fields = [kind.field(k) for k in range(kind.num_fields)]
    return (
        levels > 0
        and (pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))
        and len({field.name for field in fields}) == len(fields)
        and all(_is_plain_type(field.type, levels - 1) for field in fields)
    )


def _open(data: Any, roles: Mapping[str, str], split: str | None, config: str | None) -> Opened:
    if isinstance(data, str | Path):
        return _open_name(data, roles, split, config)
    if config is not None:
        raise InputError(f"config={config} is for folders and hub datasets; leave it out")
    # Whoever passes such an object has imported its library; nobody else should wait for the import.
    datasets, pandas = sys.modules.get("datasets"), sys.modules.get("pandas")
    if datasets is not None and isinstance(data, datasets.DatasetDict):
        table, chosen, note = from_dataset_dict(data, split)
        return Opened(table, "datasets.DatasetDict", "dataset_dict", data, chosen, note)
    if split is not None:
        raise InputError(f"split={split} is for datasets of several splits; choose rows with where=split={split}")
    if isinstance(data, pa.Table):
        return Opened(data, "pyarrow.Table", "table", data)
    if pandas is not None and isinstance(data, pandas.DataFrame):
        table, notes = from_pandas(data)
        return Opened(table, "pandas.DataFrame", "pandas", data, column_notes=notes)
    if datasets is not None and isinstance(data, datasets.Dataset):
        return Opened(from_dataset(data), "datasets.Dataset", "dataset", data)
    raise InputError(
        f"data is a {type(data).__module__}.{type(data).__qualname__}; give a path, a hub id, a pandas.DataFrame, a "
        "pyarrow.Table, a datasets.Dataset or a DatasetDict"
    )


def _open_name(data: str | Path, roles: Mapping[str, str], split: str | None, config: str | None) -> Opened:
    name, path = str(data), Path(data)
    # What is there by this very name needs neither to be expanded nor to be explained.
    if name.startswith("~") or not name.strip() or not os.path.exists(path):
        path = expanded(data)
    if not path.exists():
        if isinstance(data, Path) or _looks_like_path(name):
            raise InputError(f"{name} does not exist{nearest_path(path)}")
        table, description, split, note = from_hub(name, split, config)
        return Opened(table, description, "hub", split=split, note=note)
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        if config is not None:
            raise InputError(f"config={config}: {name} was saved without configs; leave it out")
        table, split, note = from_disk(path, split)
        return Opened(table, str(path), "file", split=split, note=note)
    if path.is_dir():
        found = split_files(path, _SUFFIXES, _format, config, split)
        files, split, note = found.files, found.split, found.note
    elif config is not None:
        raise InputError(f"config={config} is for folders and hub datasets, but {name} is a file; leave it out")
    elif split is not None:
        raise InputError(f"split={split} is for folders and hub datasets; choose rows with --where split={split}")
    else:
        files, note = [path], None
    table, notes = read_files(files, list(roles.values()))
    return Opened(table, name, "file", split=split, note=note, column_notes=notes)


def _looks_like_path(name: str) -> bool:
    path = Path(name)
    return (
        name.startswith((".", "~", os.sep))
        or _suffix(path) in _SUFFIXES
        or not _HUB_ID.fullmatch(name)
        or (len(path.parts) > 1 and path.parent.is_dir())
    )


# --- local files -----------------------------------------------------------------------------------------------


def _suffix(path: Path) -> str:
    """The suffix that tells the format, compression aside: `.jsonl` of `x.jsonl.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return name.suffix.lower()


def _format(path: Path) -> str:
    return next((name for name, suffixes in _FORMATS.items() if _suffix(path) in suffixes), "")


def read_files(paths: Sequence[Path], text_columns: Sequence[str]) -> tuple[pa.Table, Sequence[tuple[str, str]]]:
    """All rows of files of one format, in order, and what to say of columns, as in `Opened`.

    text_columns: further columns of CSV that hold text.
    Raises InputError naming the file (and the line, where there is one) that cannot be read, or the column whose type
    changes between files.
    """
    for path in paths:
        if not _format(path):
            raise InputError(f"{path}: unknown format {path.suffix!r}; data files end in {', '.join(_SUFFIXES)}")
    match _format(paths[0]):
        case "json":
            return read_json([(path, _file_bytes(path)) for path in paths])
        case "csv":
            # opened one by one, since of each only the cells are kept.
            opened = ((path, _file_bytes(path), "\t" if _suffix(path) == ".tsv" else ",") for path in paths)
            return read_csv(opened, text_columns)
        case "parquet":
            tables = [_parquet(path) for path in paths]
        case _:
            tables = [_arrow(path) for path in paths]
    return (tables[0] if len(tables) == 1 else joined(tables, paths)), ()


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            try:
                return file.read()
            except pa.ArrowNotImplementedError:  # dictionaries inside of lists are read one group of rows at a time
                return pa.concat_tables(file.read_row_group(k) for k in range(file.num_row_groups))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        _raise_denied(path, error)
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
        _raise_denied(path, error)
        raise InputError(
            f"{path} is not a readable Arrow file ({first_line(error)}); fetch or write it again"
        ) from error


def _file_bytes(path: Path) -> pa.Buffer:
    """Content of a text file, decompressed, checked to be UTF-8 and without a byte order mark."""
    try:
        if path.suffix.lower() in _COMPRESSED:
            with pa.input_stream(str(path), compression="detect") as stream:
                data = stream.read_buffer()
        else:
            data = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
    except (pa.ArrowException, OSError) as error:
        _raise_denied(path, error)
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


def _raise_denied(path: Path, error: Exception) -> None:
    """Raise InputError for a PermissionError: pyarrow's own errors are OSErrors too, but mean a damaged file."""
    if isinstance(error, PermissionError):
        raise InputError(f"{path} cannot be read: permission denied; change its mode") from error
