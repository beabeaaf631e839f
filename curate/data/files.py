"""Local data files as Arrow tables: the format that a name stands for, and the text of a file in its encoding."""

from __future__ import annotations

import codecs
import lzma
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.data.csv_files import read_csv
from curate.data.joining import joined
from curate.data.json_files import read_json
from curate.data.text_files import read_text
from curate.data.wording import first_line
from curate.errors import InputError

_FORMATS = {
    "parquet": (".parquet", ".pq"),
    "json": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "text": (".txt",),
}
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}
# First bytes of compressed files, whose name may not tell; those of bzip2 could begin a text.
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}
_ZIP = b"PK\x03\x04"
_MARKS = (  # of byte order; UTF-32 before UTF-16, which it begins with
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 4096  # bytes that tell UTF-16 without a mark
_LIKELY = ("cp1252", "shift_jis", "gb18030", "latin-1")  # encodings to suggest, the first that has all bytes


@dataclass(frozen=True)
class TextOptions:
    """How text files (JSON, CSV, lines) are decoded and CSV is divided; what is None is found.

    encoding: as Python names it. delimiter: one character, `\\t` for a tab.
    """

    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None and not _is_encoding(self.encoding):
            raise InputError(
                f"--encoding {self.encoding}: there is no such encoding; give one like utf-8, utf-16, cp1252 or "
                "shift_jis"
            )
        single = self.delimiter is None or self.delimiter == "\\t" or len(self.delimiter.encode()) == 1
        if not single or (self.delimiter is not None and self.delimiter in '"\r\n'):
            raise InputError(f"--delimiter {self.delimiter!r} is not one ASCII character; give one like ';' or '\\t'")

    @property
    def separator(self) -> str | None:
        """The delimiter as the character that it is."""
        return "\t" if self.delimiter == "\\t" else self.delimiter

    def check_of_use(self, kind: str) -> None:
        """Raise InputError where an option is given that data of this kind does not know."""
        if self.encoding is not None and kind not in ("json", "csv", "text"):
            raise InputError(f"--encoding {self.encoding} is for JSON, CSV and text files; leave it out")
        if self.delimiter is not None and kind != "csv":
            raise InputError(f"--delimiter {self.delimiter} is for CSV files; leave it out")


def _is_encoding(name: str) -> bool:
    try:
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):  # a null character in the name
        return False


def suffix_of(path: Path) -> str:
    """The suffix that tells the format, compression aside: `.jsonl` of `x.jsonl.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return name.suffix.lower()


def format_of(path: Path) -> str:
    """The format that the name of a file stands for; "" where it is none that can be read."""
    return next((name for name, suffixes in _FORMATS.items() if suffix_of(path) in suffixes), "")


def read_files(
    paths: Sequence[Path], text_columns: Sequence[str], options: TextOptions | None = None
) -> tuple[pa.Table, list[tuple[str, str]]]:
    """All rows of files of one format, in order, and (column, line) to say of columns; "" is the file itself.

    text_columns: further columns of CSV that hold text.
    Raises InputError naming the file (and the line, where there is one) that cannot be read, or the column whose type
    changes between files.
    """
    options = options or TextOptions()
    for path in paths:
        if not format_of(path):
            raise InputError(_unknown(path))
    kind = format_of(paths[0])
    options.check_of_use(kind)
    match kind:
        case "json":
            return read_json([(path, file_text(path, options.encoding)) for path in paths])
        case "csv":
            # opened one by one, since of each only the cells are kept.
            opened = (
                (path, file_text(path, options.encoding), "\t" if suffix_of(path) == ".tsv" else ",") for path in paths
            )
            return read_csv(opened, text_columns, options.separator)
        case "text":
            return read_text((path, file_text(path, options.encoding)) for path in paths)
        case "parquet":
            tables = [_parquet(path) for path in paths]
        case _:
            tables = [_arrow(path) for path in paths]
    return (tables[0] if len(tables) == 1 else joined(tables, paths)), []


def _unknown(path: Path) -> str:
    if path.suffix.lower() == ".zip":
        return _zipped(path)
    return f"{path}: unknown format {path.suffix!r}; data files end in {', '.join(SUFFIXES)}"


def _zipped(path: Path) -> str:
    return f"{path} is a zip archive; unpack it (unzip {shlex.quote(str(path))}) and give the file or folder inside"


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


def _raise_denied(path: Path, error: Exception) -> None:
    """Raise InputError for a PermissionError: pyarrow's own errors are OSErrors too, but mean a damaged file."""
    if isinstance(error, PermissionError):
        raise InputError(f"{path} cannot be read: permission denied; change its mode") from error


# --- text --------------------------------------------------------------------------------------------------------


def file_text(path: Path, encoding: str | None) -> pa.Buffer:
    """Content of a text file as UTF-8, decompressed and without a byte order mark.

    encoding: of the file; without it UTF-8, or what its mark says. Raises InputError naming the line at fault.
    """
    data = _content(path)
    head = data.slice(0, min(_HEAD, data.size)).to_pybytes()
    encoding = encoding or _found_encoding(head)
    if encoding is not None and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        return pa.py_buffer(_recoded(path, data.to_pybytes(), encoding))
    offsets = pa.array([0, data.size], pa.int64()).buffers()[1]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, data]).validate(full=True)
    except pa.ArrowInvalid:
        raw = data.to_pybytes()
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            named = "save it as UTF-8" if encoding else f"name its encoding, e.g. --encoding {_likely(raw)}"
            raise InputError(f"{path}, line {line}: not valid UTF-8; {named}") from error
    return data.slice(3) if head.startswith(codecs.BOM_UTF8) else data


def _content(path: Path) -> pa.Buffer:
    """Content of a file, decompressed."""
    try:
        if not path.stat().st_size:
            return pa.py_buffer(b"")
        data = pa.memory_map(str(path)).read_buffer()
        head = data.slice(0, min(8, data.size)).to_pybytes()
        codec = _COMPRESSED.get(path.suffix.lower())
        codec = codec or next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
        if head.startswith(_ZIP):
            raise InputError(_zipped(path))
        if codec is None:
            return data
        if codec == "xz":
            return pa.py_buffer(lzma.decompress(data.to_pybytes()))
        with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
            return stream.read_buffer()
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError) as error:
        _raise_denied(path, error)
        raise InputError(f"{path} cannot be read ({first_line(error)}); fetch or write it again") from error


def _found_encoding(head: bytes) -> str | None:
    """The encoding that the first bytes of a file tell; None for one that they do not, such as UTF-8."""
    named = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if named is not None:
        return named
    zero = np.frombuffer(head[: len(head) // 2 * 2], np.uint8).reshape(-1, 2) == 0  # (m, 2) bytes of UTF-16
    high = zero.mean(axis=0) > 0.4 if len(zero) else np.zeros(2, np.bool_)
    if high.sum() != 1:  # in texts of Western letters one byte of two is zero
        return None
    return "utf-16-le" if high[1] else "utf-16-be"


def _recoded(path: Path, raw: bytes, encoding: str) -> bytes:
    try:
        return raw.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeError as error:
        place = getattr(error, "start", 0)
        line = raw[:place].decode(encoding, errors="replace").count("\n") + 1
        raise InputError(
            f"{path}, line {line}: not valid {encoding}; name its encoding with --encoding, or save it as UTF-8"
        ) from error


def _likely(raw: bytes) -> str:
    """An encoding that has all the bytes."""
    for name in _LIKELY[:-1]:
        try:
            raw.decode(name)
            return name
        except UnicodeDecodeError:
            continue
    return _LIKELY[-1]
