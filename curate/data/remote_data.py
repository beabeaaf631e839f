"""Datasets at URLs: choose their data files and download them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.data.repositories import CARD, FormatOf, format_names, local_card, split_files
from curate.data.wording import listed
from curate.errors import InputError
from curate.storage.downloads import fetched, fetched_folder, listing
from curate.storage.remote import Item, Remote
from curate.storage.temporary import temporary_folder

_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` leaves


@dataclass(frozen=True)
class Copies:
    """Local copies of the files of one split.

    files: the data files. saved: the folder instead, if `save_to_disk` wrote it. addresses: {local path: URL}.
    """

    files: list[Path] = field(default_factory=list)
    saved: Path | None = None
    split: str | None = None
    note: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    addresses: Mapping[Path, str] = field(default_factory=dict)

    def addressed(self, message: str) -> str:
        """A message with local paths replaced by URLs."""
        for path, address in self.addresses.items():
            message = message.replace(str(path), address)
        return message


def copies(
    place: Remote, suffixes: Sequence[str], format_of: FormatOf, config: str | None, split: str | None
) -> Copies:
    """Download the data of a file, pattern or folder at a URL; of a folder only the files of the split.

    suffixes, format_of, config, split: as for `split_files`.
    """
    if place.is_pattern:
        _check_single(place, config, split)
        return _matching(place, format_of, suffixes)
    items = listing(place)
    if not items[0].name:
        _check_single(place, config, split)
        path = fetched(place, items[0])
        return Copies([path], addresses={path: str(place)})
    if any(item.name in _SAVED for item in items):
        return _saved(place, items, config, split)
    with temporary_folder("curate-names-") as names:
        _names(place, items, names)
        try:
            selection = split_files(names, suffixes, format_of, config, split)
        except InputError as error:
            raise InputError(str(error).replace(str(names.resolve()), str(place))) from error
        chosen = [path.relative_to(names.resolve()).as_posix() for path in selection.files]
        card = local_card(names)
    by_name = {item.name: item for item in items}
    files = {fetched(place, by_name[name]): str(place.join(name)) for name in chosen}
    return Copies([*files], split=selection.split, note=selection.note, card=card, addresses=files)


def _check_single(place: Remote, config: str | None, split: str | None) -> None:
    for name, value in (("config", config), ("split", split)):
        if value is not None:
            raise InputError(f"{name}={value} is for folders and hub datasets; leave it out: {place} is not a folder")


def _matching(place: Remote, format_of: FormatOf, suffixes: Sequence[str]) -> Copies:
    """Download all data files that match a pattern."""
    places = [source for source in place.matching() if format_of(Path(source.name))]
    if not places:
        raise InputError(f"{place} matches no data file; check the pattern (data files end in {', '.join(suffixes)})")
    formats = format_names([Path(source.name) for source in places], format_of)
    if len(formats) > 1:
        raise InputError(f"{place} matches {' and '.join(formats)} files; give a pattern for files of one format")
    files = {fetched(source, listing(source)[0]): str(source) for source in places}
    note = f"{len(places):,} files: {listed([source.name for source in places])}"
    return Copies([*files], note=note, addresses=files)


def _names(place: Remote, items: Sequence[Item], folder: Path) -> None:
    """Create empty files with the names of `items`, and the real card: these decide which files belong to a split."""
    for item in items:
        path = folder / item.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.name == CARD:
            path.write_bytes(place.join(item.name).read() or b"")
        else:
            path.touch()


def _saved(place: Remote, items: Sequence[Item], config: str | None, split: str | None) -> Copies:
    """Download a folder that `save_to_disk` wrote, whole, since its files refer to each other."""
    if config is not None:
        raise InputError(f"config={config}: {place} was saved without configs; leave it out")
    folder = fetched_folder(place, items)
    return Copies(saved=folder, split=split, addresses={folder: str(place)})
