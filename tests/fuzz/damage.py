"""Random damage to a folder: to the bytes of its files, to what their JSON says, and to what kind of file they are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.recipe_strategies import plain_values

__all__ = ["damage", "damages"]

KINDS = (
    "flip",
    "cut",
    "splice",
    "append",
    "empty",
    "remove",
    "folder",
    "loop",
    "nowhere",
    "pipe",
    "swap",
    "json",
    "extra",
)
Damage = tuple[int, str, int, bytes, Any]


def damages(kinds: tuple[str, ...] = KINDS, most: int = 3) -> st.SearchStrategy[list[Damage]]:
    """(which file, what happens to it, where in it, bytes, JSON value) of each damage."""
    one = st.tuples(
        st.integers(0, 10**6),
        st.sampled_from(kinds),
        st.integers(0, 10**6),
        st.binary(min_size=1, max_size=9),
        plain_values(),
    )
    return st.lists(one, min_size=1, max_size=most)


def damage(folder: Path, list_of: list[Damage], pattern: str = "*") -> None:
    """Do it, to the files and folders below `folder` whose name matches."""
    for which, kind, where, some, value in list_of:
        places = sorted(path for path in folder.rglob(pattern) if path.is_file() or kind in ("remove", "loop"))
        if places:
            _damage(places[which % len(places)], places[where % len(places)], kind, where, some, value)


def _damage(path: Path, other: Path, kind: str, where: int, some: bytes, value: Any) -> None:
    if kind in ("flip", "cut", "splice", "append", "empty", "json", "swap"):
        content = path.read_bytes()
        path.write_bytes(_changed(content, other, kind, where % (len(content) + 1), some, value))
    elif kind == "extra":
        path.with_name(f"extra-{where}{path.suffix}").write_bytes(some)
    else:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "remove": lambda: None}
        links = {"loop": lambda: path.symlink_to(path), "nowhere": lambda: path.symlink_to("/no/such/place")}
        (make | links)[kind]()


def _changed(content: bytes, other: Path, kind: str, at: int, some: bytes, value: Any) -> bytes:
    if kind == "flip":
        return content[:at] + bytes(byte ^ 0xFF for byte in content[at : at + len(some)]) + content[at + len(some) :]
    if kind == "splice":
        return content[:at] + some + content[at + len(some) :]
    if kind == "swap":
        return other.read_bytes()
    if kind == "json":
        return _edited(content, at, value)
    return {"cut": content[:at], "append": content + some, "empty": b""}[kind]


def _edited(content: bytes, at: int, value: Any) -> bytes:
    """JSON with another value in place of one of its parts; anything else becomes JSON."""
    try:
        whole = json.loads(content)
    except ValueError:
        return json.dumps(value).encode()
    places = list(_places(whole))
    if places:
        holder, key = places[at % len(places)]
        holder[key] = value
    return json.dumps(whole).encode()


def _places(value: Any) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(entries):
        yield value, key
        yield from _places(item)
