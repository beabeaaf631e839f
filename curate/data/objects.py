"""Convert objects in memory (Python rows, pandas, datasets, Arrow's C interface) and hub datasets to Arrow tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.json_values import column_of
from curate.data.repositories import choose_config, choose_split
from curate.data.wording import first_line, listed
from curate.errors import ExternalError, InputError, reason_of

_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
_Read = tuple[pa.Table, list[tuple[str, str]]]


def from_pandas(frame: Any) -> tuple[pa.Table, list[tuple[str, str]]]:
    """The rows of a DataFrame, and (column, note) for each column that is kept as text or JSON."""
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
                column, lines = column_of(name, [plain_value(name, value) for value in values.tolist()])
            except RecursionError:
                raise InputError(f"column {name!r} nests too deep; flatten it") from None
            notes += [(name, line) for line in lines]
        else:
            column = _of_dtype(name, values)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, names=names), notes


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


def plain_value(name: str, value: Any, nan: float | None = None) -> Any:
    """A cell of dtype object as a plain Python value, as from JSON if it has a JSON type; missing values are None.

    nan: the value for a float NaN.
    """
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, dict):
        if any(not isinstance(key, str) for key in value):
            raise InputError(f"column {name!r} holds a dict with keys that are not strings; make them strings")
        return {key: plain_value(name, item, nan) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(name, item, nan) for item in value]
    if isinstance(value, set | frozenset):
        raise InputError(f"column {name!r} holds a set, whose items have no order; make it a list")
    if type(value).__module__ == "numpy":
        return plain_value(name, value.tolist(), nan)
    if type(value) is float and value != value:
        return nan
    return None if value != value or type(value).__name__ in ("NAType", "NaTType") else value


def from_dataset(dataset: Any) -> pa.Table:
    """The rows of a datasets.Dataset."""
    table = dataset.with_format("arrow")[:]
    # Features such as class labels live in the metadata, which a filtered or mapped dataset may have lost.
    return table.replace_schema_metadata(dataset.features.arrow_schema.metadata)


def from_dataset_dict(data: Any, split: str | None) -> tuple[pa.Table, str, str | None]:
    """The rows of one split of a DatasetDict, the name of the split, and a note if there are others.

    split: see `curate.data.repositories.choose_split`.
    """
    splits = list(data)
    chosen = choose_split(splits, split, "the DatasetDict", "split=NAME")
    note = f"split {chosen} of {listed(splits)}; split=NAME takes another" if len(splits) > 1 else None
    return from_dataset(data[chosen]), chosen, note


def from_disk(path: Path, split: str | None) -> tuple[pa.Table, str | None, str | None]:
    """Like `from_dataset_dict`, for a folder that `save_to_disk` wrote; the split is None for a single Dataset."""
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(str(path))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a readable saved dataset ({reason_of(error)}); save it again") from error
    if isinstance(data, DatasetDict):
        return from_dataset_dict(data, split)
    if split is not None:
        raise InputError(f"split={split}: {path} holds one split only; leave it out")
    return from_dataset(data), None, None


def from_hub(name: str, split: str | None, config: str | None) -> tuple[pa.Table, str, str, str | None]:
    """Rows of a dataset of the Hugging Face hub, its description, the split, and a note if there are others.

    config, split: as `load_dataset` takes them; if it requires them, they are chosen as for a folder, see
    `curate.data.repositories`.
    """
    import datasets

    chosen, note = split or "train", None
    with _hub_errors(name, config, chosen):
        try:
            data = datasets.load_dataset(name, config, split=chosen)
        except ValueError as error:
            config, chosen, note = _on_hub(name, config, split, error)
            data = datasets.load_dataset(name, config, split=chosen)
    return from_dataset(data), _described(name, config, chosen), chosen, note


def _on_hub(name: str, config: str | None, split: str | None, error: ValueError) -> tuple[str, str, str | None]:
    """Config and split of a dataset that `load_dataset` did not load without them, and a note on the others.

    Raises InputError with the available ones for a missing config or split, and `error` if neither is the reason.
    """
    import datasets

    try:
        configs = datasets.get_dataset_config_names(name)
        chosen, note = choose_config(configs, datasets.get_dataset_default_config_name(name), config, name)
        splits = datasets.get_dataset_split_names(name, chosen)
    except (OSError, ValueError, RuntimeError) as cause:
        if isinstance(cause, InputError):
            raise
        raise error from cause
    chosen_split = choose_split(splits, split, name)
    if (chosen, chosen_split) == (config, split or "train"):
        raise error
    notes = [note] if note else []
    notes += [f"split {chosen_split} of {listed(splits)}; --split takes another"] if len(splits) > 1 else []
    return chosen, chosen_split, ". ".join(notes) or None


def _described(name: str, config: str | None, split: str) -> str:
    return f"{name}{f' ({config})' if config else ''}, split {split}"


@contextmanager
def _hub_errors(name: str, config: str | None, split: str) -> Iterator[None]:
    """Turn errors of the hub into InputError or ExternalError with a remedy."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    description = _described(name, config, split)
    tried = f"{name} is neither a local path nor a dataset that can be loaded from the Hugging Face hub"
    try:
        yield
    except InputError:
        raise
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(
            f"{tried}: {reason_of(error)}; check the spelling, log in if it is private (hf auth login), or give a file"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{description} holds no data that can be loaded: {reason_of(error)}; give a file") from error
    except (OSError, HfHubHTTPError) as error:
        offline = [name for name in _OFFLINE if os.environ.get(name, "").upper() in ("1", "TRUE", "ON", "YES")]
        if offline:
            raise InputError(
                f"{tried}: {offline[0]} is set and it is not in the local cache; unset {offline[0]}, or give a file"
            ) from error
        raise ExternalError(
            f"the Hugging Face hub did not answer for {description} ({reason_of(error)}), and {name} is not a local "
            "path; run the same command again when it does, or give a file"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"{description} cannot be loaded: {reason_of(error)}; choose another split or config"
        ) from error


def from_rows(rows: Sequence[Any]) -> _Read:
    """The rows of a list of dicts, and (column, note) for each column that is kept as text or JSON.

    A missing key is null, as in JSON Lines.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(
                f"item {number} of the list is a {type(row).__qualname__}, not a dict of a row; make it one"
            )
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _table(names, {name: [row.get(name) for row in rows] for name in names})


def from_columns(columns: Mapping[str, Any]) -> _Read:
    """The rows of a dict of lists, arrays or series of equal length, and notes as from `from_rows`."""
    cells: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values, pa.Array | pa.ChunkedArray):
            cells[name] = values
            continue
        values = values.tolist() if callable(getattr(values, "tolist", None)) else values
        if not isinstance(values, list | tuple):
            kind = type(values).__qualname__
            table = hands_out_arrow(values) or kind in ("Dataset", "DataFrame")
            remedy = f"give data[{name!r}] alone" if table else "make it a list"
            raise InputError(f"key {name!r} of the dict holds a {kind}, not a list of its cells; {remedy}")
        cells[name] = values
    lengths = {name: len(values) for name, values in cells.items()}
    if len(set(lengths.values())) > 1:
        sizes = listed([f"{name} {length:,}" for name, length in lengths.items()])
        raise InputError(f"the lists of the dict have different lengths ({sizes}); give each one cell per row")
    return _table(list(columns), cells)


def _table(names: list[Any], cells: Mapping[str, Any]) -> _Read:
    """Convert columns of Python values or Arrow arrays to a table, and note conversions."""
    if any(not isinstance(name, str) for name in names):
        raise InputError(f"column names {listed([str(name) for name in names])} are not all strings; make them strings")
    arrays, notes = [], []
    for name in names:
        values = cells[name]
        if not isinstance(values, pa.Array | pa.ChunkedArray):
            try:
                values, lines = column_of(name, [plain_value(name, value, nan) for value in values])
            except RecursionError:
                raise InputError(f"column {name!r} nests too deep; flatten it") from None
            notes += [(name, line) for line in lines]
        arrays.append(values)
    return pa.Table.from_arrays(arrays, names=names), notes


def hands_out_arrow(data: Any) -> bool:
    """Whether an object exports Arrow's C interface, as tables of polars and duckdb do."""
    return any(callable(getattr(data, name, None)) for name in ("__arrow_c_stream__", "__arrow_c_array__"))


def from_arrow(data: Any) -> pa.Table:
    """The rows of an object with Arrow's C interface; a stream is consumed."""
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    try:
        return pa.table(data)
    except Exception as error:  # of whatever library hands it out
        raise InputError(
            f"the {kind} cannot be converted to an Arrow table ({first_line(error)}); convert it to a pyarrow.Table"
        ) from error
