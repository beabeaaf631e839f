"""Temporary folders, removed by the next process where their own was killed."""

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
    """Make a folder that is this process's own, in `place` or where temporary files go, and return its path.

    Nobody can tidy up after kill -9 but the next one: what dead processes left there under that prefix is removed, once
    in each process. clear: removes a folder with all that is in it.
    """
    where = os.path.abspath(tempfile.gettempdir() if place is None else place)
    _remove_left(where, prefix, clear or _remove)
    return tempfile.mkdtemp(prefix=f"{prefix}{owner()}-", dir=where)


@contextmanager
def temporary_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """A new folder as `new_folder` makes it, and its removal."""
    folder = Path(new_folder(prefix, place))
    try:
        yield folder
    finally:
        remove(folder)


def _remove(folder: str) -> None:
    remove(Path(folder))


@functools.cache
def _remove_left(where: str, prefix: str, clear: Callable[[str], None]) -> None:
    with suppress(OSError):
        for name in os.listdir(where):
            if name.startswith(prefix) and died(name.removeprefix(prefix)):
                folder = os.path.join(where, name)
                with suppress(OSError):
                    found = os.lstat(folder)
                    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():  # anybody may write to /tmp
                        clear(folder)
