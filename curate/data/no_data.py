"""Explain files that are named like data and are none, and data in formats that are not read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from curate.data.encodings import zipped
from curate.data.wording import first_line
from curate.errors import InputError

LFS = b"version https://git-lfs"
_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|\?xml)\b", re.IGNORECASE)
_HEAD = 256
_ARCHIVES = {
    (".tar", ".tgz", ".tbz2", ".txz"): "tar -xf",
    (".7z",): "7z x",
    (".rar",): "unrar x",
}
_REMEDIES = {
    (".xlsx", ".xls", ".ods"): "a spreadsheet; save the sheet as CSV",
    (
        ".pkl",
        ".pickle",
        ".pt",
        ".pth",
        ".bin",
    ): "a pickle, which may run any program when opened; save the rows as Parquet or JSON Lines where they came from",
    (".yaml", ".yml"): "YAML; write the rows as JSON Lines",
    (".db", ".sqlite", ".sqlite3", ".duckdb"): "a database; export its table as Parquet or CSV",
}


def check_is_data(path: Path, head: bytes | None = None, *, text: bool = False) -> None:
    """Raise InputError for a pointer of Git LFS, and for a web page in place of the file that was to be downloaded.

    head: how the file begins; None = it is read. text: whether it holds lines of text, which a page may be.
    """
    if head is None:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    if head.startswith(LFS):
        raise InputError(
            f"{path} is a pointer of Git LFS, not the file itself; run git lfs pull in its repository, or fetch it"
        )
    if not text and _PAGE.match(head):
        raise InputError(
            f"{path} is a web page, not the file itself; fetch the raw file (on the hub, its address has /resolve/ in "
            "place of /blob/)"
        )


def check_allowed(path: Path, error: Exception) -> None:
    """Raise InputError for a PermissionError: pyarrow's own errors are OSErrors too, but mean a damaged file."""
    if isinstance(error, PermissionError):
        raise InputError(f"{path} cannot be read: permission denied; change its mode") from error


def unreadable(path: Path, format_name: str, error: Exception) -> InputError:
    """The error for a file that a library could not read as its format, with the likely cause."""
    try:
        check_allowed(path, error)
        check_is_data(path)
    except InputError as known:
        return known
    return InputError(f"{path} is not a readable {format_name} file ({first_line(error)}); fetch or write it again")


def other_remedy(path: Path) -> str | None:
    """What a file of another format is and what to do with it, by its name; None if it is not known."""
    suffix, inner = path.suffix.lower(), path.with_suffix("").suffix.lower()
    if suffix == ".zip":
        return zipped(path).partition(" is ")[2]
    for suffixes, command in _ARCHIVES.items():
        if suffix in suffixes or inner == ".tar":
            return f"an archive; unpack it ({command} {shlex.quote(str(path))}) and give the file or folder inside"
    return next((remedy for suffixes, remedy in _REMEDIES.items() if suffix in suffixes), None)
