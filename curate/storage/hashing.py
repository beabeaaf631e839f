"""Hashes of the names and content of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from curate.storage.cache import Cache


def file_digest(files: Iterable[tuple[Path, str]], cache: Cache | None = None) -> str:
    """32 hex digits, a hash of the names and content of files in the given order.

    files: (path, name) pairs; only the name enters the hash. cache: remembers digests by path, size and modification
    time; None = every byte is read.
    """
    if cache is None:
        return _content_digest(files)
    listed = list(files)
    stats = [(path.stat(), path, known_as) for path, known_as in listed]
    states = [(str(path.absolute()), known_as, stat.st_size, stat.st_mtime_ns) for stat, path, known_as in stats]
    key = hashlib.blake2b(json.dumps(states).encode(), digest_size=16).hexdigest()
    entry = cache.get("digests", key)
    if entry is not None:
        return (entry / "digest").read_text(encoding="utf-8")
    digest = _content_digest(listed)
    with cache.writing("digests", key) as folder:
        (folder / "digest").write_text(digest, encoding="utf-8")
    return digest


def _content_digest(files: Iterable[tuple[Path, str]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file, known_as in files:
        with file.open("rb") as stream:
            digest.update(known_as.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
