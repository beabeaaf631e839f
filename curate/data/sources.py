"""Whatever names or holds a dataset, opened as one Arrow table."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curate.data.column_types import check_buffers, conformed
from curate.data.columns import listed
from curate.data.formats import SUFFIXES, data_files, read_files
from curate.data.json_values import column_of
from curate.data.text_files import Read, suffix
from curate.errors import ExternalError, InputError
from curate.storage.places import expanded

__all__ = ["Kind", "Opened", "open_data"]

Kind = Literal["file", "hub", "pandas", "table", "dataset", "dataset_dict"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Opened:
    """The rows of one input before any filter.

    original: the object that came in, None for files and the hub. split: name of the split that was read, where
    there are several. note: a line to show to the user.
    """

    read: Read
    description: str
    kind: Kind
    original: Any = None
    split: str | None = None
    note: str | None = None


def open_data(data: Any, roles: Mapping[str, str], split: str | None, config: str | None) -> Opened:
    """All rows of `data`, see `curate.data.readers.read`, in columns that the result can hold.

    roles: columns of CSV named here are text.
    """
    opened = _open(data, roles, split, config)
    check_buffers(opened.read.table, opened.description)
    table, notes = conformed(opened.read.table, opened.description)
    return replace(opened, read=Read(table, [*opened.read.notes, *notes]))


def _open(data: Any, roles: Mapping[str, str], split: str | None, config: str | None) -> Opened:
    if isinstance(data, str | Path):
        return _open_name(data, roles, split, config)
    if config is not None:
        raise InputError(f"config={config} is for hub datasets; leave it out")
    # Whoever passes such an object has imported its library; nobody else should wait for the import.
    datasets, pandas = sys.modules.get("datasets"), sys.modules.get("pandas")
    if datasets is not None and isinstance(data, datasets.DatasetDict):
        return _open_dataset_dict(data, split)
    if split is not None:
        raise InputError(f"split={split} is for datasets of several splits; choose rows with where=split={split}")
    if isinstance(data, pa.Table):
        return Opened(Read(data), "pyarrow.Table", "table", data)
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return Opened(_from_pandas(data), "pandas.DataFrame", "pandas", data)
    if datasets is not None and isinstance(data, datasets.Dataset):
        return Opened(Read(_from_dataset(data)), "datasets.Dataset", "dataset", data)
    raise InputError(
        f"data is a {type(data).__module__}.{type(data).__qualname__}; give a path, a hub id, a pandas.DataFrame, a "
        "pyarrow.Table, a datasets.Dataset or a DatasetDict"
    )


def _from_pandas(frame: Any) -> Read:
    names = list(frame.columns)
    if any(not isinstance(name, str) for name in names):
        raise InputError(
            f"column names {listed([str(name) for name in names])} are not all strings; rename them with "
            "frame.columns = [...]"
        )
    arrays, notes = [], []
    for position, name in enumerate(names):
        values = frame.iloc[:, position]
        if values.dtype == object:
            # Arrow would give every object the keys of all others, and round integers.
            try:
                column, lines = column_of(name, [_plain(name, value) for value in values.tolist()])
            except RecursionError:
                raise InputError(f"column {name!r} nests too deep; flatten it") from None
            notes += [(name, line) for line in lines]
        else:
            column = _of_dtype(name, values)
        arrays.append(column)
    return Read(pa.Table.from_arrays(arrays, names=names), notes)


def _of_dtype(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    """A column of a dtype other than object."""
    try:
        return pa.array(values, from_pandas=True)
    except pa.ArrowException:
        try:
            return pa.array(values.to_numpy(), from_pandas=True)  # such as sparse values
        except pa.ArrowException as error:
            raise InputError(
                f"column {name!r} holds {values.dtype}, for which Arrow has no type; convert it"
            ) from error


def _plain(name: str, value: Any) -> Any:
    """A cell of a column of objects as JSON would give it, so far as it has a counterpart there; missing is None."""
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, dict):
        if any(not isinstance(key, str) for key in value):
            raise InputError(f"column {name!r} holds a dict with keys that are not strings; make them strings")
        return {key: _plain(name, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if isinstance(value, set | frozenset):
        raise InputError(f"column {name!r} holds a set, whose items have no order; make it a list")
    if type(value).__module__ == "numpy":
        return _plain(name, value.tolist())
    return None if value != value or type(value).__name__ in ("NAType", "NaTType") else value


def _from_dataset(dataset: Any) -> pa.Table:
    table = dataset.with_format("arrow")[:]
    # Features such as class labels live in the metadata, which a filtered or mapped dataset may have lost.
    return table.replace_schema_metadata(dataset.features.arrow_schema.metadata)


def _open_dataset_dict(data: Any, split: str | None) -> Opened:
    splits = list(data)
    chosen = split or ("train" if "train" in splits or len(splits) != 1 else splits[0])
    if chosen not in splits:
        raise InputError(f"the DatasetDict has no split {chosen!r}; it has {listed(splits)}: pass split=NAME")
    note = f"split {chosen} of {listed(splits)}" if len(splits) > 1 else None
    return Opened(Read(_from_dataset(data[chosen])), "datasets.DatasetDict", "dataset_dict", data, chosen, note)


def _open_name(data: str | Path, roles: Mapping[str, str], split: str | None, config: str | None) -> Opened:
    path = expanded(data)
    name = str(data)
    if not path.exists():
        if isinstance(data, Path) or _looks_like_path(name):
            raise InputError(f"{name} does not exist{_near(path)}")
        return _open_hub(name, split, config)
    if config is not None:
        raise InputError(f"config={config} is for hub datasets, but {name} is a local path; leave it out")
    if path.is_dir() and ((path / "dataset_dict.json").exists() or (path / "state.json").exists()):
        return _open_saved(path, split)
    if path.is_dir():
        files, note = data_files(path, split)
    elif split is not None:
        raise InputError(f"split={split} is for folders and hub datasets; choose rows with --where split={split}")
    else:
        files, note = [path], None
    return Opened(read_files(files, list(roles.values())), name, "file", split=split, note=note)


def _open_saved(path: Path, split: str | None) -> Opened:
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(str(path))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a readable saved dataset ({_line(error)}); save it again") from error
    if isinstance(data, DatasetDict):
        opened = _open_dataset_dict(data, split)
        return Opened(opened.read, str(path), "file", split=opened.split, note=opened.note)
    if split is not None:
        raise InputError(f"split={split}: {path} holds one split only; leave it out")
    return Opened(Read(_from_dataset(data)), str(path), "file")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _looks_like_path(name: str) -> bool:
    path = Path(name)
    return (
        name.startswith((".", "~", os.sep))
        or suffix(path) in SUFFIXES
        or not _HUB_ID.fullmatch(name)
        or (len(path.parts) > 1 and path.parent.is_dir())
    )


def _near(path: Path) -> str:
    """What to try instead of a path that is not there."""
    folder = path.parent
    if not folder.is_dir():
        return f": there is no folder {folder}; check the path"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    found = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if found:
        return f": did you mean {', '.join(str(folder / name) for name in found)}?"
    return f": {folder} holds no file of a similar name; check the path"


def _open_hub(name: str, split: str | None, config: str | None) -> Opened:
    """A dataset of the Hugging Face hub; split: train unless named."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    chosen = split or "train"
    what = f"{name}{f' ({config})' if config else ''}, split {chosen}"
    tried = f"{name} is neither a local path nor a dataset that can be loaded from the Hugging Face hub"
    try:
        data = datasets.load_dataset(name, config, split=chosen)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(
            f"{tried}: {_line(error)}; check the spelling, log in if it is private (hf auth login), or give a file"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{what} holds no data that can be loaded: {_line(error)}; give a file") from error
    except (OSError, HfHubHTTPError) as error:
        offline = [name for name in _OFFLINE if os.environ.get(name, "").upper() in ("1", "TRUE", "ON", "YES")]
        if offline:
            raise InputError(
                f"{tried}: {offline[0]} is set and it is not in the local cache; unset {offline[0]}, or give a file"
            ) from error
        raise ExternalError(
            f"the Hugging Face hub did not answer for {what} ({_line(error)}), and {name} is no local path; run the "
            "same command again when it does, or give a file"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{what} cannot be loaded: {_line(error)}; choose another split or config") from error
    return Opened(Read(_from_dataset(data)), what, "hub", split=chosen)
