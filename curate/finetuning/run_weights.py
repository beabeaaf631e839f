"""The weights that one fine-tuning run gave the rows of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.examples import Examples
from curate.errors import InputError
from curate.finetuning.weights import WEIGHTS, read_weights
from curate.storage.records import peek, read_record
from curate.types import BoolArray, Float64Array, IntArray

__all__ = ["RunWeights", "run_weights"]


@dataclass(frozen=True)
class RunWeights:
    """Weights of a run or file, in the order of the n rows.

    weights: (n,) float64, NaN where no step drew the row, or where the run did not have it. times: (n,) steps that drew
    it. absent: rows that the run did not have. run: its run.json; empty where the file came without one. same_text:
    whether its rows were these, as far as it had them; None where no run.json says.
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
        """Over the rows drawn."""
        return float(self.weights[self.drawn].mean())

    @property
    def averages(self) -> str:
        """What the method averages with these weights: "tokens" or "rows"."""
        return str(((self.run.get("training") or {}).get("weights") or {}).get("averages", "tokens"))

    def filled(self) -> Float64Array:
        """(n,) weights; of a row that was not drawn nothing is known, so it counts as much as the mean row."""
        return np.where(self.drawn, self.weights, self.mean)

    def record(self) -> dict[str, Any]:
        """For run.json."""
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
    """The weights in a run's folder, or a file of the same columns, for these n rows.

    Joined by id, never by position. Raises InputError for a file that cannot be read, holds an id twice or one that no
    row has, has no row that was drawn, or holds a weight that is no number of at least 0.
    """
    found, weights, times = read_weights(path)
    found, ids = found.cast(pa.large_string()), examples.ids.cast(pa.large_string())
    theirs = pc.index_in(found, value_set=ids)
    unknown, count = theirs.is_null(), theirs.null_count
    if count:
        raise InputError(
            f"{count:,} of the {len(found):,} ids in {path} belong to no row of the data, such as "
            f"{found.filter(unknown)[0].as_py()!r}; name the data that the run was trained on, and the --columns and "
            "--where it was read with"
        )
    if pc.count_distinct(found).as_py() < len(found):
        raise InputError(f"{path} has an id twice; name a file that `curate finetune` wrote")
    drawn = times > 0
    bad = drawn & ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{path}: the weight of {found[row].as_py()!r} is {weights[row]:g}; a weight is a number of at least 0, so "
            "name a run whose reweighter gives such"
        )
    if not drawn.any():
        raise InputError(f"{path}: no row was drawn, so it holds no weight; name a run that trained for some steps")
    place = pc.index_in(ids, value_set=found)
    has = place.is_valid().to_numpy(zero_copy_only=False)
    at = place.fill_null(0).to_numpy()
    times = np.where(has, times[at], 0)
    aligned = np.where(times > 0, weights[at].astype(np.float64), np.nan)
    run = _run(path)
    key = (run.get("data") or {}).get("fingerprint")
    same = None if key is None else examples.take(theirs.to_numpy().astype(np.int64)).fingerprint() == key
    return RunWeights(path, aligned, times, int((~has).sum()), run, same)


def _run(path: Path) -> dict[str, Any]:
    """run.json of the run that a folder or its file of weights belongs to; empty where there is none."""
    folder = path if path.is_dir() else path.parent
    record = folder / "run.json"
    if (path.is_file() and path.name != WEIGHTS) or not record.is_file():
        return {}
    if peek(record).get("kind") != "finetune":
        return {}
    return read_record(record, "rerun its `curate finetune` command with --fresh")
