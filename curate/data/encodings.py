"""Decompress files and decode their text to UTF-8."""

from __future__ import annotations

import codecs
import lzma
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.data.wording import first_line
from curate.errors import InputError

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}
# First bytes of compressed files, for files without the suffix; bzip2 is omitted, since a text could begin with them.
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}
_ZIP = b"PK\x03\x04"
_MARKS = (  # of byte order; UTF-32 before UTF-16, whose mark it begins with
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEAD = 4096  # bytes that tell the encoding
# First bytes of files that need decompressing or decoding.
BEGINNINGS = (*_MAGIC, _ZIP, *(mark for mark, _ in _MARKS))
_LIKELY = ("cp1252", "shift_jis", "gb18030", "latin-1")  # encodings to suggest: the first that decodes the file


def is_encoding(name: str) -> bool:
    """Whether Python has a text encoding of this name."""
    try:
        return bool(codecs.lookup(name)._is_text_encoding)
    except (LookupError, ValueError):  # a null character in the name
        return False


def zipped(path: Path) -> str:
    """The message about a zip archive."""
    return f"{path} is a zip archive; unpack it (unzip {shlex.quote(str(path))}) and give the file or folder inside"


def decoded(path: Path, data: pa.Buffer, encoding: str | None) -> pa.Buffer:
    """The text of a file as UTF-8, decompressed and without a byte order mark.

    data: the content of the file. encoding: of its text; None = detected from the first bytes, else UTF-8.
    Raises InputError with the line at fault and a plausible encoding.
    """
    data = _decompressed(path, data)
    raw = data.to_pybytes()
    used = encoding or _detected(raw[:HEAD]) or "utf-8"
    try:
        return pa.py_buffer(raw.decode(used).removeprefix("\ufeff").encode())
    except UnicodeError as error:
        place = getattr(error, "start", 0)
        line = raw[:place].decode(used, errors="replace").count("\n") + 1
        remedy = "name another with --encoding" if encoding else f"name its encoding, e.g. --encoding {_likely(raw)}"
        encoding_name = "UTF-8" if codecs.lookup(used).name == "utf-8" else used
        raise InputError(f"{path}, line {line}: not valid {encoding_name}; {remedy}, or save it as UTF-8") from error


def _decompressed(path: Path, data: pa.Buffer) -> pa.Buffer:
    """Decompress a file by its suffix, else by its first bytes. Raises InputError for archives and damaged files."""
    head = data.slice(0, min(8, data.size)).to_pybytes()
    if head.startswith(_ZIP):
        raise InputError(zipped(path))
    codec = COMPRESSED.get(path.suffix.lower())
    codec = codec or next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if codec is None:
        return data
    try:
        if codec == "xz":
            return pa.py_buffer(lzma.decompress(data.to_pybytes()))
        with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
            return stream.read_buffer()
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); fetch or write it again") from error


def _detected(head: bytes) -> str | None:
    """The encoding indicated by the first bytes of a text: a byte order mark, or the zero bytes of UTF-16."""
    by_mark = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if by_mark is not None:
        return by_mark
    zero = np.frombuffer(head[: len(head) // 2 * 2], np.uint8).reshape(-1, 2) == 0  # (m, 2) bytes of UTF-16
    high = zero.mean(axis=0) > 0.4 if len(zero) else np.zeros(2, np.bool_)
    if high.sum() != 1:  # in Western text, one of the two bytes is mostly zero
        return None
    return "utf-16-le" if high[1] else "utf-16-be"


def _likely(raw: bytes) -> str:
    for name in _LIKELY[:-1]:
        try:
            raw.decode(name)
            return name
        except UnicodeDecodeError:
            continue
    return _LIKELY[-1]
