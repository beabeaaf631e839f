"""Content-addressed cache of finished work."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from curate.errors import CacheDamage, ExternalError, InputError
from curate.storage.atomic import disk_errors, mkdirs, publishing, remove
from curate.storage.places import is_url, local_path

MANIFEST = "manifest.json"  # of an entry: its files, and their checksums


def local_cache() -> Path:
    """$CURATE_CACHE if it is a folder, else the platform's cache folder. Raises InputError if there is no home."""
    location = os.environ.get("CURATE_CACHE")
    if location and not is_url(location):
        return local_path(location)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("curate")
    except RuntimeError as error:  # no HOME, and a user that the system does not know
        raise InputError("there is no home folder for the cache; name one with --cache or CURATE_CACHE") from error


@dataclass
class Cache:
    """Cache entries under the folder `root`; keys are paths of names such as ("proxies", key, "step-000060").

    An entry is a folder that appears by one rename, with a manifest of checksums. There is no index and nothing to
    repair: an entry is complete or absent. Runs may share a cache; if two compute the same entry, the first is kept.
    """

    root: Path
    _verified: set[Path] = field(default_factory=set, repr=False)

    def __str__(self) -> str:
        return str(self.root)

    def get(self, *key: str) -> Path | None:
        """Folder of a finished entry with valid checksums, or None. A damaged entry is moved away with a warning."""
        entry = self.root.joinpath(*key)
        if entry in self._verified:
            return entry
        if not os.path.lexists(entry):
            return None
        fault = _fault(entry)
        if fault is None:
            self._verified.add(entry)
            return entry
        self._set_aside(entry, fault)
        return None

    @contextmanager
    def writing(self, *key: str) -> Iterator[Path]:
        """Yield an empty folder for the entry, published under its key on exit. A finished entry is never replaced."""
        entry = self.root.joinpath(*key)
        self.get(*key)  # sets a damaged entry aside
        self._clear_way(entry)
        with publishing(entry, replace=False) as folder:
            yield folder
            for path in folder.rglob("*.npy"):
                _check_whole(path)
            self._finish(folder, key)
        self._verified.add(entry)

    def _finish(self, folder: Path, key: tuple[str, ...]) -> None:
        """Write the manifest into a folder that is about to be published as an entry."""
        sums = {path.relative_to(folder).as_posix(): _checksum(path) for path in _files(folder)}
        (folder / MANIFEST).write_text(json.dumps(sums, sort_keys=True, indent=0))

    def names(self, *key: str) -> list[str]:
        """The last parts of the keys of finished entries that begin with `key`, sorted."""
        folder = self.root.joinpath(*key)
        return sorted(path.name for path in folder.glob("[!.]*")) if folder.is_dir() else []

    def drop(self, *key: str) -> None:
        """Remove an entry that is no longer needed."""
        entry = self.root.joinpath(*key)
        self._verified.discard(entry)
        if os.path.lexists(entry):
            doomed = entry.with_name(f".{entry.name}.dropped-{os.getpid()}")
            os.replace(entry, doomed)  # vanishes at once, so that no reader sees a partial entry
            remove(doomed)

    @contextmanager
    def lock(self, *key: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock of a key; the system releases it when the process dies, however it dies."""
        from filelock import FileLock, Timeout

        path = self.root.joinpath(*key[:-1], f".{key[-1]}.lock")
        self._clear_way(path)
        try:
            mkdirs(path.parent)
            if os.path.lexists(path) and not path.is_file():  # to open a pipe would be to wait for ever
                self._set_aside(path, "not a file")
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if waiting:
                    waiting()
                lock.acquire()
        except OSError as error:
            raise ExternalError(
                f"cannot write to the cache {self.root} ({error.strerror or error}); choose another with --cache"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _clear_way(self, place: Path) -> None:
        """Move away what blocks the parent folders of `place` and cannot be anyone's data: a pipe, a loop of links.

        Raises InputError for a file, which may be the user's, and for a dangling link, whose disk may not be mounted.
        """
        for folder in reversed(place.relative_to(self.root).parents[:-1]):
            path = self.root / folder
            try:
                mode = path.stat().st_mode
            except OSError as error:
                if error.errno == errno.ELOOP:
                    self._set_aside(path, "a loop of links")
                elif error.errno == errno.ENOENT and path.is_symlink():
                    raise InputError(f"{path} is a link to nothing; remove it, or name another --cache") from error
                return
            if stat.S_ISREG(mode):
                raise InputError(f"{path} is a file where a folder is needed; remove it")
            if not stat.S_ISDIR(mode):
                self._set_aside(path, "not a folder")
                return

    def _set_aside(self, entry: Path, fault: str) -> None:
        """Move an entry to damaged/ with a warning, unless another run has done so already."""
        aside = self.root / "damaged" / f"{entry.name}-{os.getpid()}-{os.urandom(4).hex()}"
        with disk_errors(entry):
            try:
                aside.parent.mkdir(parents=True, exist_ok=True)
                os.replace(entry, aside)
            except FileNotFoundError:
                return  # another run set it aside first
            except (FileExistsError, NotADirectoryError) as error:
                raise InputError(f"{aside.parent} is a file where a folder is needed; remove it") from error
        warnings.warn(
            f"cache entry {entry.relative_to(self.root)} is damaged ({fault}); kept in {aside}, recomputed",
            CacheDamage,
            stacklevel=3,
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_whole(path: Path) -> None:
    """Raise OSError for a cut-off array: NumPy does not notice that its last write did not fit on the disk."""
    import numpy as np  # 0.1 s, which `curate --help` would wait for

    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _fault(entry: Path) -> str | None:
    """What is wrong with an entry, or None. Never blocks, even if a pipe is in its place."""
    if not entry.is_dir():
        return "not a folder"
    try:
        sums = json.loads(_regular(entry / MANIFEST).read_text())
        for name, expected in sums.items():
            if _checksum(_regular(entry / name)) != expected:
                return f"checksum of {name}"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except OSError as error:  # a loop of links, a folder or pipe in place of a file, a mode, a failing disk
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    except (ValueError, AttributeError, RecursionError):
        return "unreadable manifest"
    return None


def _regular(path: Path) -> Path:
    """The path of a regular file; opening a pipe would wait for a writer that never comes."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path
