"""Files of text: their format, their bytes, and what was read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from curate.errors import InputError

__all__ = ["Read", "block_size", "file_bytes", "first_line", "raise_denied", "suffix"]

_COMPRESSED = (".gz", ".bz2", ".zst")
_LEAST_BLOCK, _MOST_BLOCK = 16 << 20, 1 << 30  # bytes parsed at a time


@dataclass(frozen=True)
class Read:
    """table: the rows. notes: columns that are kept in another form than usual, each with a line that says so."""

    table: pa.Table
    notes: Sequence[tuple[str, str]] = field(default_factory=tuple)


def suffix(path: Path) -> str:
    """The suffix that tells the format, compression aside: `.jsonl` of `x.jsonl.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    return name.suffix.lower()


def first_line(error: Exception) -> str:
    """The first line of a message, shortened: errors of ours are one line."""
    return str(error).strip().split("\n")[0][:200]


def raise_denied(path: Path, error: Exception) -> None:
    """Raise InputError for a PermissionError: pyarrow's own errors are OSErrors too, but mean a damaged file."""
    if isinstance(error, PermissionError):
        raise InputError(f"{path} cannot be read: permission denied; change its mode") from error


def file_bytes(path: Path) -> pa.Buffer:
    """Content of a text file, decompressed, checked to be UTF-8 and without a byte order mark."""
    try:
        if path.suffix.lower() in _COMPRESSED:
            with pa.input_stream(str(path), compression="detect") as stream:
                data = stream.read_buffer()
        else:
            data = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
    except (pa.ArrowException, OSError) as error:
        raise_denied(path, error)
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


def block_size(data: pa.Buffer) -> int:
    """Bytes that a parser of this text takes at a time."""
    return max(_LEAST_BLOCK, min(data.size, _MOST_BLOCK) // 16)
