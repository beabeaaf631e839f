"""The folder that a program ran in: how much it holds, and its removal, whatever the program made of it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Protocol

__all__ = ["holds_too_much", "remove_folder"]


class _Limits(Protocol):
    @property
    def folder_bytes(self) -> int: ...

    @property
    def folder_files(self) -> int: ...


def holds_too_much(folder: str, limits: _Limits) -> str | None:
    """The limit that the files in a folder break, if any; looks at no more of them than the limit allows.

    What cannot be looked into (folders without permission, or nested beyond what a path can name) breaks one, too.
    """
    files = size = 0
    pending = [folder]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > limits.folder_files:
                        return f"made more than {limits.folder_files} files"
                    with suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            return f"made a folder that cannot be looked into ({error.strerror})"
        if size > limits.folder_bytes:
            return f"wrote more than {limits.folder_bytes} bytes of files"
    return None


def remove_folder(folder: str) -> None:
    """Remove a folder and all in it, however deep it is nested and whatever its modes; never raises.

    What belongs to somebody else, or is marked as immutable, stays.
    """
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(opened)
        finally:
            os.close(opened)
        os.rmdir(folder)


def _empty(folder: int) -> None:
    """Remove what is in an open folder: of each folder in it the files, while folders move up beside it.

    So there is no recursion, no path longer than a name, and never more than two open folders.
    """
    stuck: set[str] = set()
    prefix, moved = os.urandom(8).hex(), 0
    while names := [name for name in os.listdir(folder) if name not in stuck]:
        for name in names:
            try:
                if not _unlinked(name, folder):
                    moved = _dissolve(name, folder, prefix, moved)
            except OSError:
                stuck.add(name)


def _unlinked(name: str, folder: int) -> bool:
    """Whether `name` was no folder, and is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return False
    except FileNotFoundError:
        pass
    return True


def _dissolve(name: str, folder: int, prefix: str, moved: int) -> int:
    """Remove the folder `name` in `folder`, into which its own folders are moved; the number of those moved so far."""
    os.chmod(name, 0o700, dir_fd=folder)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        for each in os.listdir(inner):
            if not _unlinked(each, inner):
                os.chmod(each, 0o700, dir_fd=inner)  # to be moved is to be written to
                os.rename(each, f"{prefix}-{moved}", src_dir_fd=inner, dst_dir_fd=folder)
                moved += 1
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
    return moved
