"""Resolve configurations and splits of a data folder like `datasets.load_dataset`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.data.file_format import Format
from curate.data.wording import listed, nearest
from curate.errors import InputError, reason_of
from curate.storage.temporary import temporary_folder

CARD = "README.md"
_SHOWN_FILES = 3  # of a split, in a note
# Most files and folders in a data folder; larger ones, such as / or a home folder, would take minutes to search.
MOST_ENTRIES = 100_000
# Files in a data folder that describe the data.
DESCRIPTIONS = frozenset(["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "run.json"])

# Maps a path to the format of its file by name; None if it cannot be read.
FormatOf = Callable[[Path], Format | None]


def format_names(paths: Iterable[Path], format_of: FormatOf) -> list[str]:
    """Sorted names of the formats of data files."""
    return sorted({file_format.name for path in paths if (file_format := format_of(path)) is not None})


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split of a folder. note: a line for the user about other configs, splits and files."""

    files: list[Path]
    split: str
    note: str | None = None


def split_files(
    folder: Path, suffixes: Sequence[str], format_of: FormatOf, config: str | None, split: str | None
) -> SplitFiles:
    """The files that `load_dataset(folder, config, split=split)` reads.

    suffixes: of readable formats, without compression. config, split: see `choose_config`, `choose_split`.
    Raises InputError for a missing config or split, for a folder without data files or with more than MOST_ENTRIES
    entries, and for a split with files of several formats.
    """
    folder = folder.resolve()  # as `datasets` does, so that both call a file by the same name
    _check_size(folder)
    by_card = "configs" in card_metadata(folder)
    if by_card:
        splits, note = _splits_by_card(folder, config)
    else:
        if config not in (None, "default"):
            raise InputError(f"config={config}: the card of folder {folder} names no configs; leave out --config")
        splits, note = _splits_by_name(folder, suffixes), None
    splits = {
        name: [path for path in files if format_of(path) and path.name not in DESCRIPTIONS]
        for name, files in splits.items()
    }
    splits = {name: files for name, files in splits.items() if files}
    if not splits:
        archive = next((f"; name the archive {path}" for path in sorted(folder.glob("*.zip"))), "")
        raise InputError(f"folder {folder} holds no data files{archive}; they end in {', '.join(suffixes)}")
    chosen = choose_split(list(splits), split, f"folder {folder}")
    files = splits[chosen]
    formats = format_names(files, format_of)
    if len(formats) > 1:
        raise InputError(
            f"folder {folder} mixes {' and '.join(formats)} files; name one file, or a folder of one format"
        )
    notes = [note] if note else []
    if len(splits) > 1:
        notes.append(f"split {chosen} of {listed(list(splits))}; --split takes another")
    if len(files) > 1:
        notes.append(f"{len(files)} files: {_names(folder, files)}")
    unnamed = [] if by_card else _unnamed(folder, suffixes, splits)
    if unnamed:
        notes.append(f"in no split, so not read: {_names(folder, unnamed)}")
    return SplitFiles(files, chosen, ". ".join(notes) or None)


def _check_size(folder: Path) -> None:
    entries = 0
    for _, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        if entries > MOST_ENTRIES:
            raise InputError(
                f"folder {folder} holds more than {MOST_ENTRIES:,} files and folders; name the folder of the data, or "
                f"its files by a pattern such as '{folder / '*.jsonl'}'"
            )


def choose_split(splits: Sequence[str], requested: str | None, title: str, option: str = "--split NAME") -> str:
    """The wanted split; else train, the only one, or one whose name begins with train, preferring those with sft.

    title, option: for messages, the name of the dataset and the option that chooses a split. Raises InputError if there
    is no such split.
    """
    if requested is not None and requested not in splits:
        near = nearest(requested, splits)
        raise InputError(f"{title} has no split {requested!r}{near}; it has {listed(splits)}: choose one with {option}")
    if requested is not None or "train" in splits or len(splits) == 1:
        return requested or ("train" if "train" in splits else splits[0])
    begin = [name for name in splits if name.startswith("train")]
    # Some datasets, such as UltraChat, have train splits for fine-tuning, generation and preferences.
    chosen = next((name for name in begin if "sft" in name), begin[0] if begin else None)
    if chosen is None:
        raise InputError(f"{title} has the splits {listed(splits)} and none is train; choose one with {option}")
    return chosen


def choose_config(
    configs: Sequence[str], default: str | None, requested: str | None, title: str
) -> tuple[str, str | None]:
    """The wanted configuration, else the default, else the first; and a note if there are others."""
    if requested is not None and requested not in configs:
        near = nearest(requested, configs)
        raise InputError(
            f"{title} has no config {requested!r}{near}; it has {listed(configs)}: choose one with --config NAME"
        )
    chosen = requested or default or configs[0]
    note = f"config {chosen} of {listed(configs)}; --config takes another" if len(configs) > 1 else None
    return chosen, note


def card_metadata(folder: Path) -> dict[str, Any]:
    """The front matter of a folder's card; empty if there is none. Raises InputError if it is not YAML."""
    if not (folder / CARD).is_file():
        return {}
    from huggingface_hub.repocard import metadata_load

    try:
        return metadata_load(folder / CARD) or {}
    except Exception as error:  # of YAML, of files and of the library itself
        raise _unresolved(folder, error) from error


_CARRIED = ("license", "license_name", "license_link", "language", "task_categories")


def carried_over(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a card's front matter that still applies to derived data: license, language and task."""
    return {name: metadata[name] for name in _CARRIED if isinstance(metadata.get(name), str | list)}


def local_card(folder: Path) -> dict[str, Any]:
    """`carried_over` of the card in a folder; empty if there is none."""
    try:
        return carried_over(card_metadata(folder))
    except InputError:  # a README.md beside a data file need not be a dataset card
        return {}


def hub_card(name: str) -> dict[str, Any]:
    """`carried_over` of the card of a hub dataset; empty if there is none or it is not available."""
    import huggingface_hub

    try:
        return carried_over(huggingface_hub.DatasetCard.load(name).data.to_dict())
    except Exception:  # a dataset without a card is as good, and its rows are here already
        return {}


def _splits_by_card(folder: Path, config: str | None) -> tuple[dict[str, list[Path]], str | None]:
    """The files of each split of one configuration of the card, and a note if there are several configurations."""
    import datasets

    try:
        configs = datasets.get_dataset_config_names(str(folder))
        default = datasets.get_dataset_default_config_name(str(folder))
        chosen, note = choose_config(configs, default, config, f"folder {folder}")
        with temporary_folder("curate-splits-") as place:  # for its lock files
            builder = datasets.load_dataset_builder(str(folder), chosen, cache_dir=str(place))
    except InputError:
        raise
    except Exception as error:  # third-party code parses the card and may raise anything
        raise _unresolved(folder, error) from error
    return _paths(folder, builder.config.data_files or {}), note


def _splits_by_name(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each split by the names of files and folders."""
    from datasets.data_files import DataFilesDict, get_data_patterns

    try:
        patterns = get_data_patterns(str(folder))
        return _paths(folder, DataFilesDict.from_patterns(patterns, str(folder), list(suffixes)))
    except FileNotFoundError:
        return {}
    except ValueError as error:  # a name of a split that is none
        raise _unresolved(folder, error) from error


def _paths(folder: Path, data_files: Mapping[Any, Sequence[str]]) -> dict[str, list[Path]]:
    """{split: paths} in the order of `datasets`, without repeats. Raises InputError for files outside the folder."""
    for path in (path for paths in data_files.values() for path in paths):
        if "://" in path:
            raise InputError(f"folder {folder}: {CARD} names files elsewhere ({path}); download them, and name them")
    return {str(split): [*dict.fromkeys(map(Path, paths))] for split, paths in data_files.items()}


def _unresolved(folder: Path, error: Exception) -> InputError:
    return InputError(
        f"folder {folder}: its splits cannot be found ({reason_of(error)}); correct {CARD}, or name one file"
    )


def _unnamed(folder: Path, suffixes: Sequence[str], splits: Mapping[str, list[Path]]) -> list[Path]:
    """Data files in the folders of the splits that belong to no split."""
    assigned = {path for files in splits.values() for path in files}
    places = {path.parent for path in assigned} | {folder}
    neighbors = (path for place in sorted(places) for path in sorted(place.iterdir()))
    return [
        path
        for path in neighbors
        if path not in assigned
        and path.is_file()
        and path.name.endswith(tuple(suffixes))
        and not path.name.startswith(".")
        and path.name not in DESCRIPTIONS
    ]


def _names(folder: Path, files: Sequence[Path]) -> str:
    names = [path.relative_to(folder).as_posix() for path in files[:_SHOWN_FILES]]
    return ", ".join(names) + (", ..." if len(files) > _SHOWN_FILES else "")
