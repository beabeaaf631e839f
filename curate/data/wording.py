"""Format types, names and long texts for messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from curate.storage.places import meant_url

_LISTED, _LISTED_CHARACTERS = 12, 100  # most names in a message, and how long together


def short(text: str, most: int = 40) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_line(error: Exception) -> str:
    """The first line of an error's message, shortened, since messages of curate are one line."""
    return str(error).strip().split("\n")[0][:200]


def type_name(kind: pa.DataType) -> str:
    """The name of a type in messages."""
    return short(str(kind).replace("extension<arrow.json>", "JSON"), 80)


def listed(names: Sequence[str]) -> str:
    """A short list of names for a message, with their number if some are left out; line breaks and such are escaped."""
    short_names = [short(name if name.isprintable() else repr(name)) for name in names[:_LISTED]]
    while len(short_names) > 1 and sum(map(len, short_names)) > _LISTED_CHARACTERS:
        short_names.pop()
    return ", ".join(short_names) + (f", ... ({len(names):,} in all)" if len(short_names) < len(names) else "")


def alternatives(names: Sequence[str], word: str = "or") -> str:
    """Names as a phrase: "a, b or c"."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def nearest(name: str, names: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the valid name closest to `name`, or "" if none is close."""
    lowered = {candidate.casefold(): candidate for candidate in names}
    matches = difflib.get_close_matches(name.casefold(), lowered, n=1, cutoff=0.5)
    return f" (did you mean {lowered[matches[0]]!r}?)" if matches else ""


def nearest_path(path: Path, is_data: Callable[[Path], object]) -> str:
    """What to try instead of a missing path, as the end of a message about it. is_data: by the name of a file."""
    folder = path.parent
    if (url := meant_url(path)) is not None:
        return f": URLs have two slashes; write {url}"
    if not folder.is_dir():
        return f": there is no folder {folder}; check the path"
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    names = [entry.name for entry in entries if not (entry / "run.json").exists()]  # no results of earlier runs
    matches = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    data = [entry.name for entry in entries if entry.is_file() and is_data(entry)]
    if matches:
        return f": did you mean {', '.join(str(folder / name) for name in matches)}?"
    data_files = f" (but {', '.join(data)})" if 0 < len(data) <= 3 else ""
    return f": {folder} holds no file of a similar name{data_files}; check the path"
