"""Temporary folders; those of killed processes are removed by the next process."""

from __future__ import annotations

import functools
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curate.storage.atomic import died, owner, remove


def new_folder(prefix: str, place: Path | None = None, clear: Callable[[str], None] | None = None) -> str:
    """Create a folder of this process in `place`, or the system's temporary folder, and return its path.

    A killed process cannot clean up, so folders with this prefix whose processes have ended are removed here, once
    per process. clear: removes a folder and its content.
    """
    parent = os.path.abspath(tempfile.gettempdir() if place is None else place)
    _remove_left(parent, prefix, clear or _remove)
    return tempfile.mkdtemp(prefix=f"{prefix}{owner()}-", dir=parent)


@contextmanager
def temporary_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """Create a folder with `new_folder` and remove it on exit."""
    folder = Path(new_folder(prefix, place))
    try:
        yield folder
    finally:
        remove(folder)


def temporary_place() -> Path:
    """Folder for large temporary files: $TMPDIR, else /var/tmp, since /tmp is in memory on many systems."""
    configured = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    disk = Path("/var/tmp")
    if not configured and disk.is_dir() and os.access(disk, os.W_OK | os.X_OK):
        return disk
    return Path(tempfile.gettempdir())


def _remove(folder: str) -> None:
    remove(Path(folder))


@functools.cache
def _remove_left(where: str, prefix: str, clear: Callable[[str], None]) -> None:
    """Remove the folders of ended processes; cached, so that each process does this once."""
    with suppress(OSError):
        for name in os.listdir(where):
            if name.startswith(prefix) and died(name.removeprefix(prefix)):
                folder = os.path.join(where, name)
                with suppress(OSError):
                    status = os.lstat(folder)
                    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():  # any user may write to /tmp
                        clear(folder)
