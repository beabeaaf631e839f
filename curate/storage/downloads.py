"""Local copies of remote files, downloaded again only when their content changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.errors import InputError
from curate.storage.atomic import publishing
from curate.storage.cache import local_cache
from curate.storage.remote import Item, Remote, remote

_LARGEST_LISTING = 100_000


def listing(place: Remote) -> list[Item]:
    """The objects of a remote file or folder. Raises InputError for none, or for more than 100,000."""
    items = [item for item in place.items() if ".." not in item.name.split("/")]
    if not items:
        raise InputError(f"{place} does not exist; check the spelling")
    if len(items) > _LARGEST_LISTING:
        raise InputError(f"{place} holds {len(items):,} objects; name a folder of data, or a file")
    return items


def fetched(place: Remote, item: Item) -> Path:
    """Download one object of a listing of `place` and return the path of the copy, which keeps the object's name.

    Copies are kept in downloads/ of the local cache, and downloaded again only when size, ETag or modification time
    differ, or if the storage reports none of these.
    """
    source = place.join(item.name)
    folder = local_cache() / "downloads" / _key([source.url, item.size, item.stamp])
    copy = folder / (source.name or "data")
    if item.stamp is not None and copy.is_file() and item.size in (None, copy.stat().st_size):
        return copy
    with publishing(folder) as partial:
        if not source.fetch(partial / copy.name):
            raise InputError(f"{source} does not exist; check the spelling")
    return copy


def fetched_folder(place: Remote, items: Sequence[Item]) -> Path:
    """Download objects of a listing into one folder with the same layout; cached like those of `fetched`."""
    state = [place.url, [(item.name, item.size, item.stamp) for item in items]]
    folder = local_cache() / "downloads" / _key(state)
    if not folder.is_dir():
        with publishing(folder, replace=False) as partial:
            for item in items:
                path = partial / item.name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not place.join(item.name).fetch(path):
                    raise InputError(f"{place.join(item.name)} does not exist; check the spelling")
    return folder


def local_file(url: str) -> Path:
    """Local copy of the object at a URL. Raises InputError for a folder."""
    place = remote(url)
    items = listing(place)
    if items[0].name:
        raise InputError(f"{place} is a folder; name a file")
    return fetched(place, items[0])


def state_of(url: str) -> str:
    """32 hex digits that change when an object at the URL changes, or one is added or removed."""
    place = remote(url)
    items = [(item.name, item.size, item.stamp) for item in listing(place)]
    return _key([str(place), items])


def _key(state: Any) -> str:
    """32 hex digits, a hash of a value that JSON can hold."""
    return hashlib.blake2b(json.dumps(state).encode(), digest_size=16).hexdigest()
