"""Copies on this machine of what lies behind URLs, each fetched once for each of its contents."""

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
    """The objects of a file or folder; InputError where there is none, or more than anybody means."""
    items = [item for item in place.items() if ".." not in item.name.split("/")]
    if not items:
        raise InputError(f"{place} is not there; check the spelling")
    if len(items) > _LARGEST_LISTING:
        raise InputError(f"{place} holds {len(items):,} objects; name a folder of data, or a file")
    return items


def fetched(place: Remote, item: Item) -> Path:
    """A copy of one object; `item`: of a listing of `place`. It keeps its name, which tells its format.

    It stays in downloads/ of the local cache, and is fetched again only when size, tag or time of change differ; always
    where the storage says nothing of these.
    """
    source = place.join(item.name)
    folder = local_cache() / "downloads" / _key([source.url, item.size, item.stamp])
    copy = folder / (source.name or "data")
    if item.stamp is not None and copy.is_file() and item.size in (None, copy.stat().st_size):
        return copy
    with publishing(folder) as partial:
        if not source.fetch(partial / copy.name):
            raise InputError(f"{source} is not there; check the spelling")
    return copy


def fetched_folder(place: Remote, items: Sequence[Item]) -> Path:
    """Copies of all these objects, laid out as they are; kept as by `fetched`."""
    state = [place.url, [(item.name, item.size, item.stamp) for item in items]]
    folder = local_cache() / "downloads" / _key(state)
    if not folder.is_dir():
        with publishing(folder, replace=False) as partial:
            for item in items:
                path = partial / item.name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not place.join(item.name).fetch(path):
                    raise InputError(f"{place.join(item.name)} is not there; check the spelling")
    return folder


def local_file(url: str) -> Path:
    """A copy of the one object behind a URL. InputError where it is a folder."""
    place = remote(url)
    items = listing(place)
    if items[0].name:
        raise InputError(f"{place} is a folder; name a file")
    return fetched(place, items[0])


def state_of(url: str) -> str:
    """32 hex digits that change when an object at the URL does, or is added or removed."""
    place = remote(url)
    items = [(item.name, item.size, item.stamp) for item in listing(place)]
    return _key([str(place), items])


def _key(state: Any) -> str:
    return hashlib.blake2b(json.dumps(state).encode(), digest_size=16).hexdigest()
