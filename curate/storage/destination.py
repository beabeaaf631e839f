"""Where a dataset is written: a folder, or a URL by way of a folder on this machine.

Behind a URL nothing can be renamed, so objects are first put under `.pending/`, named by their content. Then an earlier
result stops being one (its run.json goes, then its card), the objects are copied to where they belong, and README.md
and, last, run.json follow. Whoever finds no run.json looks at an unfinished folder. A kill at any moment is mended by
the same command: what was put is not put again.
"""

from __future__ import annotations

import hashlib
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
from curate.storage.places import check_place, files_under, local_path
from curate.storage.records import parse_record, read_finished
from curate.storage.remote import Remote, is_url, remote

PENDING = ".pending"
_CARD = "README.md"
_LAST = (_CARD, RECORD)
_HUB_FILES = frozenset([".gitattributes"])


def result_place(place: Path | str) -> Path | str:
    """A folder as `local_path` takes it, or a URL as it is: where a dataset or a file of scores may be written."""
    return str(place) if is_url(place) else local_path(place)


def check_result_place(place: Path | str) -> None:
    """Raise before any work where nothing can be written; see `check_place`."""
    if not isinstance(place, str):
        check_place(place)
        return
    there = remote(place)
    there.check_writable()
    if there.scheme == "hf":
        repository(there)
        check_login()


@dataclass(frozen=True)
class Destination:
    """folder: where the command writes. place: where the result goes from there; None = it stays. option: what named
    it, for messages.
    """

    folder: Path
    place: Remote | None = None
    option: str = "--out"

    @classmethod
    def of(cls, place: Path | str, option: str = "--out") -> Destination:
        """The destination that a path or URL names; nothing is asked of it yet."""
        if not is_url(place):
            return cls(local_path(place), option=option)
        there = remote(str(place))
        digest = hashlib.blake2b(there.url.rstrip("/").encode(), digest_size=16).hexdigest()
        return cls(local_cache() / "uploads" / digest, there, option)

    def __str__(self) -> str:
        return str(self.place or self.folder)

    @property
    def _named(self) -> str:
        return f"{self.option} {self}".lstrip()

    def check(self, inputs: str, *, fresh: bool = False) -> bool:
        """Whether the dataset made of these inputs is there; as `check_directory` in all else."""
        if self.place is None:
            return check_directory(self.folder, inputs, fresh=fresh)
        names = self._names()
        return RECORD in names and self._matches(inputs, names, fresh=fresh)

    def resume(self, inputs: str) -> bool:
        """Whether the dataset of these inputs was written but not wholly uploaded; it is uploaded then."""
        if self.place is None or not (self.folder / RECORD).is_file():
            return False
        try:
            whole = check_directory(self.folder, inputs)
        except InputError:  # of other inputs, or damaged: it is written anew
            return False
        if whole:
            self.publish()
        return whole

    def publish(self, note: Callable[[str], None] | None = None) -> None:
        """Bring what lies in the folder to the URL, and remove the folder; nothing to do for a local one."""
        if self.place is None:
            return
        if note:
            note(f"  uploading to {self}")
        if self.place.scheme == "hf":
            upload(self.folder, repository(self.place), sorted({*DATASET_PARTS, RECORD}))
        else:
            _put(self.folder, self.place)
        remove(self.folder)

    def tidy(self) -> None:
        """Remove what a kill left of an upload that was finished."""
        if self.place is not None and self.place.scheme != "hf":
            _remove_pending(self.place)
            remove(self.folder)

    def record(self) -> dict[str, Any]:
        """run.json of the finished dataset. InputError where there is none."""
        if self.place is None:
            return read_finished(self.folder)
        content = self.place.join(RECORD).read()
        if content is None:
            raise InputError(f"{self} holds no finished run (no {RECORD}); run `curate run DATA --out {self}`")
        return parse_record(content, f"{self}/{RECORD}", "pass --fresh to write the result anew")

    def _names(self) -> dict[str, int | None]:
        """{name: size} of the objects of an earlier result. InputError where there are objects of anybody else."""
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
        if fresh:
            return False
        record = self.record()
        if record.get("inputs") != inputs:
            raise InputError(f"{self._named} holds the result of other inputs; name another folder, or pass --fresh")
        for name in record.get("files", {}):
            if name not in names:
                raise InputError(f"{self}/{name} is missing; pass --fresh to write the result anew")
        return True


def _put(folder: Path, place: Remote) -> None:
    """Bring a finished folder to a URL, see above; any part of it may be there already."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(files_under(folder))}
    there = {item.name: item.size for item in place.items()}
    place.join(PENDING, "upload").write(b"")  # whose folder it is, until run.json says so
    pending = {}
    for name, path in files.items():
        if name not in _LAST:
            pending[name] = f"{PENDING}/{file_digest([(path, '')])}"
            if there.get(pending[name]) != path.stat().st_size:
                place.join(pending[name]).write(path)
    for name in (RECORD, _CARD):
        if name in there:
            place.join(name).remove()
    for name in there:
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
