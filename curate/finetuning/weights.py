"""Weights that a reweighter gave the rows of a run: write them to a table, read them, join them to a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.data.examples import Examples
from curate.errors import InputError
from curate.storage.atomic import publish_file
from curate.storage.places import arrow_path
from curate.storage.records import peek, read_record
from curate.training.reweighting import ReweightingState, mean_weights
from curate.types import BoolArray, Float64Array, FloatArray, IntArray

_WEIGHTS = "weights.parquet"
_SCHEMA = pa.schema({"example_id": pa.large_string(), "weight": pa.float32(), "times": pa.int64()})


def weight_facts(reweighting: ReweightingState) -> dict[str, Any]:
    """Summary of the mean weights of the rows that were drawn, see `spread`.

    averages: "tokens" or "rows", what the method averages with its weights (`curate.protocols.Reweighter`).
    """
    means, times = mean_weights(reweighting.state())  # (n,) each
    drawn_weights = means[times > 0].astype(np.float64)  # (drawn rows,)
    return {"rows_drawn": len(drawn_weights), "averages": reweighting.averages, **spread(drawn_weights)}


def spread(weights: Float64Array) -> dict[str, float]:
    """Mean, minimum and maximum of m weights, and the effective share of the rows.

    The effective share is (sum w)^2 / (m sum w^2): 1 where all weights are equal.
    """
    squares = float((weights**2).sum())
    return {
        "mean": round(float(weights.mean()), 6),
        "smallest": round(float(weights.min()), 6),
        "largest": round(float(weights.max()), 6),
        "effective_share": round(float(weights.sum() ** 2 / (len(weights) * squares)), 6) if squares else 0.0,
    }


def write_weights(reweighting: ReweightingState, ids: pa.Array, folder: Path) -> None:
    """Write weights.parquet: example_id, weight (as the method gave it, mean over the steps that drew the row; null if
    none did), times drawn."""
    means, times = mean_weights(reweighting.state())
    columns = {"example_id": ids, "weight": pa.array(means, mask=times == 0), "times": pa.array(times)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    publish_file(folder / _WEIGHTS, sink.getvalue().to_pybytes(), replace=True)


def read_weights(run: Path) -> tuple[pa.Array, FloatArray, IntArray]:
    """(m,) example ids, mean weights (NaN if never drawn) and times drawn, from a finished run or a file.

    Raises InputError if there are none.
    """
    path = run / _WEIGHTS if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run} holds no weights ({_WEIGHTS}); name a run of `curate finetune --reweighter ...`")
    try:
        table = pq.read_table(arrow_path(path), columns=_SCHEMA.names).cast(_SCHEMA)
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} is not a table of weights ({reason}); name one that `curate finetune` wrote"
        ) from error
    times = pc.fill_null(table["times"], 0).to_numpy().astype(np.int64)
    return table["example_id"].combine_chunks(), table["weight"].to_numpy().astype(np.float32), times


@dataclass(frozen=True)
class RunWeights:
    """Weights from a run or file, in the order of the n rows.

    weights: (n,) float64, NaN if no step drew the row or the run did not have it. times: (n,) steps that drew
    it. absent: rows that the run did not have. run: its run.json; empty for a file without one. same_text:
    whether the run's rows had these texts, as far as it had them; None without a run.json that says so.
    """

    path: Path
    weights: Float64Array
    times: IntArray
    absent: int
    run: dict[str, Any]
    same_text: bool | None = None

    @property
    def drawn(self) -> BoolArray:
        return self.times > 0

    @property
    def mean(self) -> float:
        """Mean over the rows drawn."""
        return float(self.weights[self.drawn].mean())

    @property
    def averages(self) -> str:
        """What the method averages with these weights: "tokens" or "rows"."""
        return str(((self.run.get("training") or {}).get("weights") or {}).get("averages", "tokens"))

    def filled(self) -> Float64Array:
        """(n,) weights; a row that was not drawn has no known weight and gets the mean."""
        return np.where(self.drawn, self.weights, self.mean)

    def record(self) -> dict[str, Any]:
        """Summary for run.json."""
        settings = self.run.get("settings") or {}
        return {
            "weights": str(self.path),
            "model": settings.get("model"),
            "reweighter": settings.get("reweighter"),
            "seed": self.run.get("seed"),
            "rows_drawn": int(self.drawn.sum()),
            "rows_absent": self.absent,
            "averages": self.averages,
            "mean": round(self.mean, 6),
        }


def run_weights(path: Path, examples: Examples) -> RunWeights:
    """Read weights from a run folder, or a file with the same columns, for these n rows.

    Joined by id, never by position. Raises InputError for a file that cannot be read, a duplicate id, an id that no
    row has, a file without any drawn row, and a weight that is not a number of at least 0.
    """
    run_ids, weights, times = read_weights(path)  # (m,) each
    run_ids, ids = run_ids.cast(pa.large_string()), examples.ids.cast(pa.large_string())
    rows = pc.index_in(run_ids, value_set=ids)  # (m,) row of each id
    if rows.null_count:
        raise InputError(
            f"{rows.null_count:,} of the {len(run_ids):,} ids in {path} belong to no row of the data, such as "
            f"{run_ids.filter(rows.is_null())[0].as_py()!r}; name the data that the run was trained on, and "
            "the --columns and --where it was read with"
        )
    if pc.count_distinct(run_ids).as_py() < len(run_ids):
        raise InputError(f"{path} has an id twice; name a file that `curate finetune` wrote")
    was_drawn = times > 0
    bad = was_drawn & ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: the weight of {run_ids[row].as_py()!r} is {weights[row]:g}; a weight is a number of at least 0, "
            "so name a run whose reweighter gives such"
        )
    if not was_drawn.any():
        raise InputError(f"{path}: no row was drawn, so it holds no weight; name a run that trained for some steps")
    indices = pc.index_in(ids, value_set=run_ids)  # (n,) place of each row in the table
    present = indices.is_valid().to_numpy(zero_copy_only=False)  # (n,) bool
    positions = indices.fill_null(0).to_numpy()
    times = np.where(present, times[positions], 0)  # (n,)
    aligned = np.where(times > 0, weights[positions].astype(np.float64), np.nan)  # (n,)
    run = _run(path)
    key = (run.get("data") or {}).get("fingerprint")
    same = None if key is None else examples.take(rows.to_numpy().astype(np.int64)).fingerprint() == key
    return RunWeights(path, aligned, times, int((~present).sum()), run, same)


def _run(path: Path) -> dict[str, Any]:
    """The run.json of the run that a folder or its weights file belongs to; empty if there is none."""
    folder = path if path.is_dir() else path.parent
    record = folder / "run.json"
    if (path.is_file() and path.name != _WEIGHTS) or not record.is_file():
        return {}
    if peek(record).get("kind") != "finetune":
        return {}
    return read_record(record, "rerun its `curate finetune` command with --fresh")
