"""Destination of a dataset: a folder, or a URL that a local folder is uploaded to."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.storage.atomic import remove
from curate.storage.cache import local_cache
from curate.storage.folders import DATASET_PARTS, RECORD, check_directory
from curate.storage.hashing import file_digest
from curate.storage.hub import check_login, repository, upload
from curate.storage.local_paths import without_local_paths
from curate.storage.places import check_place, files_under, is_url, local_path
from curate.storage.records import parse_record, read_finished
from curate.storage.remote import Remote, remote

PENDING = ".pending"
_CARD = "README.md"
_LAST = (_CARD, RECORD)
_HUB_FILES = frozenset([".gitattributes"])


def result_place(place: Path | str) -> Path | str:
    """An expanded local path (`local_path`), or the URL unchanged, for a dataset or a file of scores."""
    return str(place) if is_url(place) else local_path(place)


def check_result_place(place: Path | str) -> None:
    """Raise before any work if `place` cannot be written; see `check_place`."""
    if not isinstance(place, str):
        check_place(place)
        return
    target = remote(place)
    target.check_writable()
    if target.scheme == "hf":
        repository(target)
        check_login()


@dataclass(frozen=True)
class Destination:
    """Where a command writes its result.

    Objects behind a URL cannot be renamed, so they are first uploaded to `.pending/`, named by their content. Then
    run.json and the card of an earlier result are removed, the objects are copied to their final names, and README.md
    and, last, run.json are written. A folder without run.json is unfinished. After an interruption the same command
    resumes and uploads nothing twice.

    folder: the local folder that it writes to. place: the URL that the folder is uploaded to; None = it stays local.
    option: the command-line option that named it, for messages.
    """

    folder: Path
    place: Remote | None = None
    option: str = "--out"

    @classmethod
    def of(cls, place: Path | str, option: str = "--out") -> Destination:
        """The destination at a path or URL; does not access it."""
        if not is_url(place):
            return cls(local_path(place), option=option)
        target = remote(str(place))
        digest = hashlib.blake2b(target.url.rstrip("/").encode(), digest_size=16).hexdigest()
        return cls(local_cache() / "uploads" / digest, target, option)

    def __str__(self) -> str:
        return str(self.place or self.folder)

    @property
    def _named(self) -> str:
        """The option and its value, as messages quote it: "--out PLACE"."""
        return f"{self.option} {self}".lstrip()

    def check(self, inputs: str, *, fresh: bool = False) -> bool:
        """Whether the dataset made from these inputs is there; otherwise like `check_directory`."""
        if self.place is None:
            return check_directory(self.folder, inputs, fresh=fresh)
        names = self._names()
        return RECORD in names and self._matches(inputs, names, fresh=fresh)

    def resume(self, inputs: str) -> bool:
        """Finish an interrupted upload of the dataset made from these inputs; whether there was one."""
        if self.place is None or not (self.folder / RECORD).is_file():
            return False
        try:
            is_complete = check_directory(self.folder, inputs)
        except InputError:  # made from other inputs, or damaged: it is written again
            return False
        if is_complete:
            self.publish()
        return is_complete

    def publish(self, note: Callable[[str], None] | None = None) -> None:
        """Upload the folder to the URL and remove it; does nothing for a local destination."""
        if self.place is None:
            return
        if note:
            note(f"  uploading to {self}")
        without_local_paths(self.folder)
        if self.place.scheme == "hf":
            upload(self.folder, repository(self.place), sorted({*DATASET_PARTS, RECORD}))
        else:
            _put(self.folder, self.place)
        remove(self.folder)

    def tidy(self) -> None:
        """Remove leftovers of an upload that was interrupted just before its end."""
        if self.place is not None and self.place.scheme != "hf":
            _remove_pending(self.place)
            remove(self.folder)

    def record(self) -> dict[str, Any]:
        """run.json of the finished dataset. Raises InputError if there is none."""
        if self.place is None:
            return read_finished(self.folder)
        content = self.place.join(RECORD).read()
        if content is None:
            raise InputError(
                f"{self} holds no finished run (no {RECORD}); run `curate run DATA --out {shlex.quote(str(self))}`"
            )
        return parse_record(content, f"{self}/{RECORD}", "pass --fresh to rewrite the result")

    def _names(self) -> dict[str, int | None]:
        """{name: size in bytes} of the objects of an earlier result. Raises InputError if other objects are there."""
        assert self.place is not None
        sizes = {item.name: item.size for item in self.place.items()}
        if "" in sizes:
            raise InputError(f"{self._named} is a file; name a folder")
        first = {name.partition("/")[0] for name in sizes} - _HUB_FILES
        foreign = sorted(first - DATASET_PARTS - {RECORD, PENDING})
        if not foreign and not first & {RECORD, PENDING}:
            foreign = sorted(first)
        if foreign:
            raise InputError(f"{self._named} holds other files ({foreign[0]}); name a new or empty folder")
        return sizes

    def _matches(self, inputs: str, names: dict[str, int | None], *, fresh: bool) -> bool:
        """Whether the remote result can be kept; False with `fresh`, InputError if incomplete or of other inputs."""
        if fresh:
            return False
        record = self.record()
        if record.get("inputs") != inputs:
            raise InputError(f"{self._named} holds the result of other inputs; name another folder, or pass --fresh")
        for name in record.get("files", {}):
            if name not in names:
                raise InputError(f"{self}/{name} is missing; pass --fresh to rewrite the result")
        return True


def _put(folder: Path, place: Remote) -> None:
    """Upload a finished folder to a URL as described above; parts of it may have been uploaded already."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(files_under(folder))}
    existing = {item.name: item.size for item in place.items()}
    place.join(PENDING, "upload").write(b"")  # marks the folder as ours until run.json is there
    pending = {}
    for name, path in files.items():
        if name not in _LAST:
            pending[name] = f"{PENDING}/{file_digest([(path, '')])}"
            if existing.get(pending[name]) != path.stat().st_size:
                place.join(pending[name]).write(path)
    for name in (RECORD, _CARD):
        if name in existing:
            place.join(name).remove()
    for name in existing:
        if name not in files and not name.startswith(f"{PENDING}/"):
            place.join(name).remove()
    for name, source in pending.items():
        place.join(source).copy(place.join(name))
    for name in _LAST:
        place.join(name).write(files[name])
    _remove_pending(place)


def _remove_pending(place: Remote) -> None:
    for item in place.join(PENDING).items():
        place.join(PENDING, item.name).remove()
