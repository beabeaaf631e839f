"""Open any supported data source as one Arrow table."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curate.data.archives import opened_like_a_folder
from curate.data.column_types import check_buffers, conformed
from curate.data.encodings import BEGINNINGS, COMPRESSED, HEAD, decoded, is_encoding
from curate.data.file_format import Format, Notes
from curate.data.joining import joined
from curate.data.known_formats import DELIMITED, ENCODED, FORMATS, SUFFIXES
from curate.data.no_data import LFS, check_allowed, check_is_data, other_remedy
from curate.data.objects import (
    from_arrow,
    from_columns,
    from_dataset,
    from_dataset_dict,
    from_disk,
    from_hub,
    from_pandas,
    from_rows,
    hands_out_arrow,
)
from curate.data.remote_data import copies
from curate.data.repositories import format_names, hub_card, local_card, split_files
from curate.data.wording import alternatives, first_line, listed, nearest_path
from curate.errors import InputError
from curate.storage.mapped import mapped, release
from curate.storage.places import expanded, is_url
from curate.storage.remote import remote

Kind = Literal["file", "hub", "pandas", "table", "dataset", "dataset_dict", "rows", "columns"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_ARCHIVE = ".zip"
_SPLIT = re.compile(r"(?<![a-z])(train|test|valid|validation|dev|eval)(?![a-z])")  # in the name of a file


@dataclass(frozen=True)
class TextOptions:
    """Encoding of text files (JSON, CSV, lines) and delimiter of CSV files; None = detected.

    encoding: Python's name of it. delimiter: one character, `\\t` for a tab.
    """

    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None and not is_encoding(self.encoding):
            raise InputError(
                f"--encoding {self.encoding}: there is no such encoding; give one like utf-8, utf-16, cp1252 or "
                "shift_jis"
            )
        single = self.delimiter is None or self.delimiter == "\\t" or len(self.delimiter.encode()) == 1
        if not single or (self.delimiter is not None and self.delimiter in '"\r\n'):
            raise InputError(f"--delimiter {self.delimiter!r} is not one ASCII character; give one like ';' or '\\t'")

    @property
    def separator(self) -> str | None:
        """The delimiter as one character."""
        return "\t" if self.delimiter == "\\t" else self.delimiter

    def check_of_use(self, file_format: Format | None) -> None:
        """Raise InputError for an option that does not apply to a format; None = data that is not in files."""
        if self.encoding is not None and (file_format is None or file_format.parse is None):
            fitting = alternatives(ENCODED, "and")
            raise InputError(f"--encoding {self.encoding} is for {fitting} files; leave it out")
        if self.delimiter is not None and (file_format is None or not file_format.has_delimiter):
            fitting = alternatives(DELIMITED, "and")
            raise InputError(f"--delimiter {self.delimiter} is for {fitting} files; leave it out")


@dataclass(frozen=True)
class Opened:
    """The rows of one input before any filter.

    original: the object that was passed, None for files and the hub. split: name of the split that was read, if there
    are several. note: a line to show to the user. column_notes: (column, note) for columns that were converted.
    files: the files that were read, if there are several. plain: whether every column holds text, numbers, or lists
    and objects of these, and all text is UTF-8; then nothing needs conversion, and a cell can be at fault only by being
    null. card: license and similar metadata of the dataset card.
    """

    table: pa.Table
    description: str
    kind: Kind
    original: Any = None
    split: str | None = None
    note: str | None = None
    column_notes: Sequence[tuple[str, str]] = ()
    plain: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()


def open_data(
    data: Any, roles: Mapping[str, str], split: str | None, config: str | None, text: TextOptions | None = None
) -> Opened:
    """All rows of `data` (see `curate.data.readers.read`) in column types that results can hold.

    roles: {role: column}; in CSV files, these columns are text.
    """
    text = text or TextOptions()
    opened = _open(data, roles, split, config, text)
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
        for column in table.columns:
            for chunk in column.chunks:
                chunk.validate(full=True)
                release()
        return _is_plain_type(pa.struct(list(table.schema)))
    except (pa.ArrowException, NotImplementedError, UnicodeDecodeError):
        return False


def _is_plain_type(kind: pa.DataType, levels: int = 8) -> bool:
    """Whether a type is plain, see `Opened`. levels: most nesting, well within the limit of Parquet."""
    if not kind.num_fields:
        return kind in _PLAIN
    fields = [kind.field(k) for k in range(kind.num_fields)]
    return (
        levels > 0
        and (pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))
        and len({field.name for field in fields}) == len(fields)
        and all(_is_plain_type(field.type, levels - 1) for field in fields)
    )


def _open(data: Any, roles: Mapping[str, str], split: str | None, config: str | None, text: TextOptions) -> Opened:
    """Dispatch on the type of `data`; column types are those of the source."""
    if isinstance(data, str | Path):
        return _open_name(data, roles, split, config, text)
    text.check_of_use(None)
    if config is not None:
        raise InputError(f"config={config} is for folders and hub datasets; leave it out")
    # An object of these libraries exists only if they are imported; others should not wait for the import.
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
    if hands_out_arrow(data):
        return Opened(
            from_arrow(data), f"{type(data).__module__.partition('.')[0]}.{type(data).__qualname__}", "table", data
        )
    if isinstance(data, Mapping):
        table, notes = from_columns(data)
        return Opened(table, "dict of columns", "columns", data, column_notes=notes)
    if isinstance(data, list | tuple):
        table, notes = from_rows(data)
        return Opened(table, "list of rows", "rows", data, column_notes=notes)
    if callable(getattr(data, "collect", None)):
        raise InputError(
            f"data is a {type(data).__qualname__}, which holds no rows yet; give what its .collect() returns"
        )
    raise InputError(
        f"data is a {type(data).__module__}.{type(data).__qualname__}; give a path, a hub id, a pandas.DataFrame, a "
        "pyarrow.Table, a datasets.Dataset or DatasetDict, anything with __arrow_c_stream__, a list of dicts (such as "
        "list(data) of an iterable of rows) or a dict of lists"
    )


def _open_name(
    data: str | Path, roles: Mapping[str, str], split: str | None, config: str | None, text: TextOptions
) -> Opened:
    """Open a path, glob pattern, URL or hub id."""
    if isinstance(data, str) and "://" in data and is_url(data):
        return _open_url(data, roles, split, config, text)
    name, path = str(data), Path(data)
    # A name that exists literally needs no expansion and no checks.
    if name.startswith("~") or not name.strip() or not os.path.exists(path):
        path = expanded(data)
    if not path.exists() and glob.has_magic(str(path)):
        return _open_glob(path, roles, split, config, text)
    if not path.exists():
        if os.path.islink(path):
            raise InputError(
                f"{name} is a link to {os.readlink(path)}, which does not exist{nearest_path(path, format_of)}"
            )
        if isinstance(data, Path) or _looks_like_path(name):
            raise InputError(f"{name} does not exist{nearest_path(path, format_of)}")
        table, description, split, note = from_hub(name, split, config)
        return Opened(table, description, "hub", split=split, note=note, card=hub_card(name))
    if not (path.is_file() or path.is_dir()):  # reading a pipe blocks until a writer opens it
        raise InputError(f"{name} is neither a file nor a folder; name one, or copy what it gives into a file")
    if path.is_file() and path.suffix.lower() == _ARCHIVE:
        return _open_archive(path, roles, split, config, text)
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        if config is not None:
            raise InputError(f"config={config}: {name} was saved without configs; leave it out")
        table, split, note = from_disk(path, split)
        return Opened(table, str(path), "file", split=split, note=note)
    if path.is_dir():
        selection = split_files(path, SUFFIXES, format_of, config, split)
        files, split, note = selection.files, selection.split, selection.note
    elif config is not None:
        raise InputError(f"config={config} is for folders and hub datasets, but {name} is a file; leave it out")
    elif split is not None:
        raise InputError(f"split={split} is for folders and hub datasets; choose rows with --where split={split}")
    else:
        files, note = [path], None
    table, notes = read_files(files, list(roles.values()), text)
    folder = path if path.is_dir() else path.parent
    card = local_card(folder) if (folder / "README.md").is_file() else {}
    several = files if len(files) > 1 else ()
    return Opened(table, name, "file", split=split, note=note, column_notes=notes, card=card, files=several)


def _open_archive(
    path: Path, roles: Mapping[str, str], split: str | None, config: str | None, text: TextOptions
) -> Opened:
    """Open a zip archive like the folder it was packed from."""
    with opened_like_a_folder(path, format_of) as folder:
        return replace(_open_name(folder, roles, split, config, text), description=str(path), files=())


def _open_url(url: str, roles: Mapping[str, str], split: str | None, config: str | None, text: TextOptions) -> Opened:
    """Open a file, folder or glob pattern at a URL, through local copies."""
    place = remote(url)
    local = copies(place, SUFFIXES, format_of, config, split)
    notes: list[tuple[str, str]] = []
    split, note = local.split, local.note
    try:
        if local.saved is not None:
            table, split, note = from_disk(local.saved, split)
        elif [path.suffix.lower() for path in local.files] == [_ARCHIVE]:
            return replace(_open_archive(local.files[0], roles, split, config, text), description=str(place))
        else:
            table, notes = read_files(local.files, list(roles.values()), text)
    except InputError as error:
        raise InputError(local.addressed(str(error))) from error
    return Opened(
        table,
        str(place),
        "file",
        split=split,
        note=note,
        column_notes=notes,
        card=local.card,
        files=local.files,
    )


def _open_glob(
    pattern: Path, roles: Mapping[str, str], split: str | None, config: str | None, text: TextOptions
) -> Opened:
    """Open all data files that match a glob pattern, sorted by path."""
    for name, value in (("config", config), ("split", split)):
        if value is not None:
            raise InputError(
                f"{name}={value} is for folders and hub datasets; leave it out: {pattern} says which files"
            )
    matching = sorted(
        Path(candidate) for candidate in glob.glob(str(pattern), recursive=True) if os.path.isfile(candidate)
    )
    files = [path for path in matching if format_of(path)]
    if not files:
        matched = f"only files that are not data, such as {matching[0]}" if matching else "no file"
        raise InputError(f"{pattern} matches {matched}; check the pattern (data files end in {', '.join(SUFFIXES)})")
    formats = format_names(files, format_of)
    if len(formats) > 1:
        raise InputError(f"{pattern} matches {' and '.join(formats)} files; give a pattern for files of one format")
    table, notes = read_files(files, list(roles.values()), text)
    note = f"{len(files):,} files: {listed([path.name for path in files])}"
    splits = {match[0] for path in files if (match := _SPLIT.search(path.stem.casefold()))}
    if len(splits) > 1:
        note += f"; read as one, though their names are of splits ({listed(sorted(splits))}): a pattern can name one"
    return Opened(table, str(pattern), "file", note=note, column_notes=notes, files=files)


def _looks_like_path(name: str) -> bool:
    path = Path(name)
    return (
        name.startswith((".", "~", os.sep))
        or suffix_of(path) in (*SUFFIXES, _ARCHIVE)
        or not _HUB_ID.fullmatch(name)
        or (len(path.parts) > 1 and path.parent.is_dir())
    )


# --- local files -----------------------------------------------------------------------------------------------


def suffix_of(path: Path) -> str:
    """The suffix of the format, without compression: `.jsonl` for `x.jsonl.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def format_of(path: Path) -> Format | None:
    """The format of a file by its name; None if it cannot be read."""
    suffix = suffix_of(path)
    return next((file_format for file_format in FORMATS if suffix in file_format.suffixes), None)


def read_files(
    paths: Sequence[Path], text_columns: Sequence[str], options: TextOptions | None = None
) -> tuple[pa.Table, Notes]:
    """All rows of files of one format, in order, and (column, note) pairs; the column "" means the file.

    text_columns: further text columns of CSV files.
    Raises InputError with the file, and the line if known, that cannot be read, or the column whose types differ
    between files.
    """
    options = options or TextOptions()
    for path in paths:
        if format_of(path) is None:
            raise InputError(_unknown(path))
    file_format = format_of(paths[0])
    assert file_format is not None
    options.check_of_use(file_format)
    if file_format.parse is not None:
        # A generator, so that a format may have one file's text in memory at a time.
        texts = ((path, _file_text(path, options.encoding, file_format)) for path in paths)
        return file_format.parse(texts, text_columns, options.separator)
    assert file_format.tables is not None
    tables = file_format.tables(paths)
    return (tables[0] if len(tables) == 1 else joined(tables, paths)), []


_FILES_LOOKED_INTO = 32
_LOOKED_INTO = 64 << 20  # most bytes of a text file to read only for its columns


def of_other_columns(paths: Sequence[Path]) -> str:
    """Addition to a message about several files: the first file whose columns differ from those of `paths[0]`."""
    first = _columns_of(paths[0]) if paths else []
    for path in paths[1:_FILES_LOOKED_INTO]:
        columns = _columns_of(path)
        if first and columns and {*columns} != {*first}:
            return f"; {path.name} has the columns {listed(columns)}, {paths[0].name} has {listed(first)}"
    return ""


def _columns_of(path: Path) -> list[str]:
    """Column names of a file; empty if they cannot be read, or not quickly."""
    file_format = format_of(path)
    try:
        if file_format is not None and file_format.column_names is not None:
            return file_format.column_names(path)
        return list(read_files([path], [])[0].column_names) if path.stat().st_size < _LOOKED_INTO else []
    except (InputError, OSError, pa.ArrowException):
        return []


def _unknown(path: Path) -> str:
    if (remedy := other_remedy(path)) is not None:
        return f"{path}: {remedy}"
    return f"{path}: unknown format {path.suffix!r}; data files end in {', '.join(SUFFIXES)}"


def _file_text(path: Path, encoding: str | None, file_format: Format) -> pa.Buffer:
    """Content of a text file as UTF-8, decompressed and without a byte order mark."""
    try:
        with path.open("rb") as file:
            data = mapped(file)
    except (pa.ArrowException, OSError) as error:
        check_allowed(path, error)
        raise InputError(f"{path} cannot be read ({first_line(error)}); fetch or write it again") from error
    head = data.slice(0, min(HEAD, data.size)).to_pybytes()
    if head.lstrip()[:1] in (b"<", LFS[:1]):
        check_is_data(path, head, text=file_format.is_prose)
    if encoding or path.suffix.lower() in COMPRESSED or head.startswith(BEGINNINGS) or b"\0" in head:
        return decoded(path, data, encoding)
    offsets = pa.array([0, data.size], pa.int64()).buffers()[1]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, data]).validate(full=True)
    except pa.ArrowInvalid:
        return decoded(path, data, None)
    return data
