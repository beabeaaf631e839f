"""Cache behind a URL with local copies: an entry is one object, so it is complete or absent."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

from curate.errors import CacheDamage, InputError
from curate.storage.atomic import disk_errors, make_folder, publishing
from curate.storage.cache import Cache, local_cache
from curate.storage.places import check_cache, is_url, local_path
from curate.storage.remote import Remote, remote

# Entries about files of this machine (by path and modification time), which other machines cannot use.
_LOCAL = frozenset(["digests"])


class RemoteCache(Cache):
    """Entries under `place`, each an uncompressed tar archive KEY.tar; those that were used are also kept in a folder.

    Uploading an object replaces it atomically, so no remote lock is needed: two writers of a key write the same bytes,
    since archives have no times or owners. `lock` keeps processes of this machine from doing the same work twice.
    Whatever is not an entry (the store of paid requests, notes on diverged training) stays on this machine.
    """

    def __init__(self, place: Remote, folder: Path | None = None) -> None:
        """folder: for the local copies; None = a folder of the local cache that belongs to this URL."""
        self.place = place
        self._damaged: set[tuple[str, ...]] = set()
        digest = hashlib.blake2b(str(place).rstrip("/").encode(), digest_size=8).hexdigest()
        super().__init__(folder or local_cache() / "remote" / digest)

    def __str__(self) -> str:
        return str(self.place)

    def get(self, *key: str) -> Path | None:
        """As `Cache.get`; an entry that this machine lacks is downloaded."""
        return super().get(*key) or self._fetched(*key)

    def drop(self, *key: str) -> None:
        """As `Cache.drop`, locally and at the URL."""
        super().drop(*key)
        if key[0] not in _LOCAL:
            self._object(*key).remove()

    def names(self, *key: str) -> list[str]:
        """As `Cache.names`, of the entries here and at the URL."""
        items = [] if key[0] in _LOCAL else self.place.join(*key).items()
        remote_names = {item.name.removesuffix(".tar") for item in items if item.name and "/" not in item.name}
        return sorted({*remote_names, *super().names(*key)})

    def _finish(self, folder: Path, key: tuple[str, ...]) -> None:
        """Upload the entry before it appears locally, so that whatever this machine has, all have."""
        super()._finish(folder, key)
        if key[0] in _LOCAL:
            return
        with tempfile.NamedTemporaryFile(prefix=".put-", dir=self.root) as file:
            _pack(folder, file)
            file.flush()
            self._object(*key).write(Path(file.name))
        self._damaged.discard(key)

    def _object(self, *key: str) -> Remote:
        return self.place.join(*key[:-1], f"{key[-1]}.tar")

    def _fetched(self, *key: str) -> Path | None:
        """Download an entry and return its folder; None, from then on, if it is absent or damaged."""
        if key[0] in _LOCAL or key in self._damaged:
            return None
        entry, source = self.root.joinpath(*key), self._object(*key)
        make_folder(self.root)
        with tempfile.TemporaryDirectory(prefix=".fetched-", dir=self.root) as place:
            archive = Path(place) / "entry.tar"
            with disk_errors(entry):
                if not source.fetch(archive):
                    return None
            try:
                with publishing(entry, replace=False) as folder, tarfile.open(archive, "r:") as tar:
                    tar.extractall(folder, filter="data")
            except (tarfile.TarError, EOFError) as error:
                message = f"cache entry {source} is damaged ({error}); it is recomputed"
                warnings.warn(message, CacheDamage, stacklevel=3)
                fetched = None
            else:
                fetched = super().get(*key)  # which verifies the checksums
        if fetched is None:
            self._damaged.add(key)
        return fetched


def open_cache(place: Cache | Path | str | None) -> Cache:
    """The cache at a folder or URL; None = $CURATE_CACHE, else the platform's folder. Does not access it."""
    if isinstance(place, Cache):
        return place
    chosen = cache_place(place or os.environ.get("CURATE_CACHE") or local_cache())
    return RemoteCache(remote(chosen)) if isinstance(chosen, str) else Cache(chosen)


def cache_place(place: Path | str) -> Path | str:
    """An expanded local path (`local_path`), or the URL unchanged."""
    return str(place) if is_url(place) else local_path(place)


def check_cache_place(place: Path | str | None) -> None:
    """Raise before any work if there can be no cache; see `curate.storage.places.check_cache`."""
    cache = open_cache(place)
    check_cache(cache.root)
    if isinstance(cache, RemoteCache):
        cache.place.check_writable()
        if cache.place.scheme == "hf":
            raise InputError(f"--cache {cache.place}: the hub keeps every version of a file; name a bucket or a folder")


def _pack(entry: Path, file: Any) -> None:
    """Write the files of an entry as a tar archive whose bytes depend on nothing but names and content."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(path for path in entry.rglob("*") if path.is_file()):
            header = tarfile.TarInfo(path.relative_to(entry).as_posix())
            header.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(header, content)
