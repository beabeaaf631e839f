"""Read and write scores as Parquet files, for `curate score` and `--scores`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.data.wording import type_name
from curate.difficulty.reducible import Gains
from curate.difficulty.scores import COUNTS, Scores
from curate.errors import InputError
from curate.storage.atomic import publish_file
from curate.storage.downloads import local_file
from curate.storage.places import arrow_path, check_place, is_url, local_path, without_secrets
from curate.storage.remote import remote
from curate.types import BoolArray

_GAIN, _HELD_OUT_LOSS = "gain", "held_out_loss"
_NULL_ROWS = "curate.null_rows"  # in the metadata of the table


def scores_table(scores: Scores, ids: Any) -> pa.Table:
    """The table that `write_scores` writes.

    Columns example_id, difficulty (null if invalid), valid, feature_<k>, and if known those of `COUNTS`,
    length_difference and reducible. If gains were measured, also gain and held_out_loss (nats per token, null for rows
    without one), and those of the null rows in the table's metadata.
    """
    columns: dict[str, Any] = {
        "example_id": ids,
        "difficulty": pa.array(scores.difficulty, mask=~scores.valid),
        "valid": scores.valid,
    }
    for name in (*COUNTS, "length_difference", "reducible"):
        if getattr(scores, name) is not None:
            columns[name] = getattr(scores, name)
    for k in range(scores.features.shape[1]):
        columns[f"feature_{k}"] = np.ascontiguousarray(scores.features[:, k])
    gained = scores.gains
    if gained is None:
        return pa.table(columns)
    for name, values in ((_GAIN, gained.rows), (_HELD_OUT_LOSS, gained.short)):
        columns[name] = pa.array(values, mask=~np.isfinite(values))
    null_values = {_GAIN: gained.null.tolist(), _HELD_OUT_LOSS: gained.null_short.tolist()}
    return pa.table(columns).replace_schema_metadata(
        {_NULL_ROWS: json.dumps({**null_values, "best": gained.best, "since": gained.since})}
    )


def trajectories_table(scores: Scores, ids: Any) -> pa.Table:
    """Columns example_id, tokens and, per checkpoint, loss_<step> (nats per token, null where invalid)."""
    assert scores.trajectory is not None
    assert scores.steps is not None
    columns: dict[str, Any] = {"example_id": ids}
    if scores.tokens is not None:
        columns["tokens"] = scores.tokens
    for k, step in enumerate(scores.steps.tolist()):
        columns[f"loss_{step}"] = pa.array(scores.trajectory[:, k], mask=~scores.valid)
    return pa.table(columns)


def write_scores(scores: Scores, ids: Any, path: Path | str, record: Mapping[str, Any] | None = None) -> None:
    """Difficulty, features and losses per example id as one Parquet file: what `--scores` reads.

    path: also a URL. record: further columns (n,).
    """
    table = scores_table(scores, ids)
    for name, column in (record or {}).items():
        table = table.append_column(name, pa.array(column))
    if scores.trajectory is not None:
        losses = trajectories_table(scores, ids)
        for name in losses.column_names:
            if name.startswith("loss_"):
                table = table.append_column(name, losses.column(name))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    if is_url(path):
        remote(str(path)).write(content)
    else:
        publish_file(Path(path), content)


def check_scores_file(path: Path | str) -> None:
    """Raise InputError if scores cannot be written to `path`, a path or URL, or would replace something else."""
    if is_url(path):
        _check_scores_url(str(path))
        return
    path = Path(path)
    if path.is_dir():
        raise InputError(f"--out {path} is a folder; name a Parquet file")
    check_place(path)
    if path.exists():
        _check_replaced(path, str(path))


def _check_scores_url(url: str) -> None:
    place = remote(url)
    items = place.items()
    if items and items[0].name:
        raise InputError(f"--out {place} is a folder; name a Parquet file")
    if place.scheme == "hf":
        raise InputError(f"--out {place}: scores are not a dataset; name a bucket or a file on this machine")
    if items:
        _check_replaced(local_file(url), str(place))


def _check_replaced(path: Path, name: str) -> None:
    """Raise InputError if an existing file does not hold scores. name: of the file, for messages."""
    try:
        is_scores = {"example_id", "difficulty"} <= set(pq.read_schema(arrow_path(path)).names)
    except (OSError, pa.ArrowInvalid):
        is_scores = False
    if not is_scores:
        raise InputError(f"--out {name} is a file of something other than scores; name a new file")


def read_scores(path: Path | str) -> Scores:
    """Scores written by `write_scores`, or any Parquet file with example_id and difficulty.

    Without feature columns the losses (columns loss_<step>) are the features, else the difficulty alone.
    """
    file = local_file(str(path)) if is_url(path) else local_path(path)
    path = without_secrets(str(path))
    try:
        table = pq.read_table(arrow_path(file))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"--scores {path} cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    for name in ("example_id", "difficulty"):
        if name not in table.column_names:
            raise InputError(f"--scores {path} has no column {name!r}; write it with `curate score --out FILE`")
    difficulty = _floats(table, "difficulty")
    valid = _valid(table, difficulty, path)
    losses, columns = _numbered(table, "loss_"), _numbered(table, "feature_")
    steps = sorted(losses)
    trajectory = np.stack([_floats(table, losses[step]) for step in steps], axis=1) if steps else None  # (n, K)
    if columns:
        features = np.stack([_floats(table, columns[k]) for k in sorted(columns)], axis=1)  # (n, f)
    else:
        features = trajectory if trajectory is not None else difficulty[:, None]
    if not valid.all():
        features = np.where(valid[:, None], features, 0)  # (n, f)
    features = features.astype(np.float32, copy=False)  # no copy if it is the trajectory
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
        raise InputError(f"--scores {path} row {row} is valid but has a feature that is not finite; mark it invalid")
    return Scores(
        features=features,
        difficulty=difficulty,
        valid=valid,
        trajectory=trajectory,
        steps=np.array(steps, np.int64) if steps else None,
        **{name: _counts(table, name, path) for name in COUNTS if name in table.column_names},
        length_difference=_difference(table),
        gains=_gains(table, path),
        reducible=_reducible(table, path),
        ids=_ids(table.column("example_id"), path),
    )


def _gains(table: pa.Table, path: Path | str) -> Gains | None:
    """The gains in a table of `scores_table`; None if there are none, or a column `reducible` takes precedence."""
    if _GAIN not in table.column_names or "reducible" in table.column_names:
        return None
    try:
        null = json.loads((table.schema.metadata or {})[_NULL_ROWS.encode()])
        rows, short = (
            np.asarray(pc.fill_null(table.column(name).cast(pa.float64()), float("nan")).to_numpy())
            for name in (_GAIN, _HELD_OUT_LOSS)
        )
        null_rows, null_short = (np.asarray(null[name], np.float64) for name in (_GAIN, _HELD_OUT_LOSS))
        if null_rows.ndim != 1 or null_rows.shape != null_short.shape:
            raise ValueError("null rows of two numbers")
        best, since = ((int(null[name][0]), int(null[name][1])) for name in ("best", "since"))
    except (KeyError, IndexError, TypeError, ValueError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"--scores {path}: column {_GAIN!r} lacks the null rows that it is compared with, or is damaged (a program "
            "that rewrites the file may drop its metadata); take the file of `curate score`, or add a column reducible "
            "(true or false)"
        ) from error
    return Gains(rows, null_rows, short, null_short, best, since)


def _reducible(table: pa.Table, path: Path | str) -> BoolArray | None:
    if "reducible" not in table.column_names:
        return None
    column = table.column("reducible")
    if not pa.types.is_boolean(column.type):
        raise InputError(f"--scores {path}: column 'reducible' holds {type_name(column.type)}, not true and false")
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False))


def _ids(column: pa.ChunkedArray, path: Path | str) -> pa.Array:
    try:
        return column.cast(pa.string()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"--scores {path}: column 'example_id' holds {type_name(column.type)}, not ids; give one text per row"
        ) from error


def _numbered(table: pa.Table, prefix: str) -> dict[int, str]:
    """{number: name} of the columns named prefix + number."""
    names = [name for name in table.column_names if name.startswith(prefix)]
    return {int(name[len(prefix) :]): name for name in names if name[len(prefix) :].isdecimal()}


def _floats(table: pa.Table, name: str) -> np.ndarray:
    try:
        column = table.column(name).cast(pa.float32())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"scores: column {name!r} is {type_name(table.column(name).type)}, not a number") from error
    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(), np.float32)


def _counts(table: pa.Table, name: str, path: Path | str) -> np.ndarray:
    """(n,) int32 counts of tokens in a column. Raises InputError for other values."""
    column = table.column(name)
    if column.null_count or not pa.types.is_integer(column.type):
        raise InputError(f"--scores {path}: column {name!r} must hold whole numbers without nulls; fix or remove it")
    counts = column.to_numpy()
    outside = (counts < 0) | (counts > np.iinfo(np.int32).max)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"--scores {path} row {row}: column {name!r} holds {counts[row]}, which is not a count of tokens; fix or "
            "remove the column"
        )
    return np.asarray(counts, np.int32)


def _valid(table: pa.Table, difficulty: np.ndarray, path: Path | str) -> np.ndarray:
    """(n,) the column `valid`; without one, whether difficulty is finite."""
    if "valid" not in table.column_names:
        return np.isfinite(difficulty)
    column = table.column("valid")
    if not (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)):
        raise InputError(
            f"--scores {path}: column 'valid' holds {type_name(column.type)}, not true and false; correct it, or "
            "remove it to take the rows with a finite difficulty"
        )
    return np.asarray(pc.fill_null(column.cast(pa.bool_()), False).to_numpy(zero_copy_only=False))


def _difference(table: pa.Table) -> Any:
    """(n,) int32 length differences; None if the column is missing or incomplete."""
    column = table["length_difference"] if "length_difference" in table.column_names else None
    if column is None or column.null_count or not pa.types.is_integer(column.type):
        return None
    return column.to_numpy().astype(np.int32)
