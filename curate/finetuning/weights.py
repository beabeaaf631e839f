"""What a reweighter of a fine-tuning run reads, and the weights it gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.component import Component
from curate.data.examples import Examples
from curate.data.readers import read
from curate.dataset_reference import FurtherData
from curate.errors import InputError
from curate.storage.atomic import publish_file
from curate.tokenization.tokens import Tokens
from curate.training.reweighting import Reweighting, TrainingRows, mean_weights
from curate.types import Float64Array, FloatArray, IntArray

__all__ = ["WEIGHTS", "further_data", "read_weights", "spread", "training_rows", "weight_facts", "write_weights"]

WEIGHTS = "weights.parquet"
_SCHEMA = pa.schema({"example_id": pa.large_string(), "weight": pa.float32(), "times": pa.int64()})


def training_rows(examples: Examples, tokenise: Callable[[Examples], Tokens]) -> TrainingRows:
    """What a reweighter may ask of the rows of a run. tokenise: further examples, as those were tokenised."""

    def further(data: Any, reading: Mapping[str, Any]) -> Tokens:
        return tokenise(read(data, allow_curated=True, **reading).examples)

    return TrainingRows(_Columns(examples.table), examples.columns.get("source"), further)


class _Columns(Mapping[str, list[Any]]):
    """A table's columns by name, turned into Python values when asked for."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.table.column_names:
            raise KeyError(name)
        return list(self.table[name].to_pylist())

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table.column_names)


def further_data(reweighter: Any) -> dict[str, str]:
    """Name of a parameter that is a dataset -> fingerprint of its rows, so that a changed file is another run."""
    if not isinstance(reweighter, Component):
        return {}
    given = {name: getattr(reweighter, name) for name in type(reweighter).model_fields}
    return {
        name: read(each.data, allow_curated=True, **each.reading).examples.fingerprint()
        for name, each in given.items()
        if isinstance(each, FurtherData)
    }


def weight_facts(reweighting: Reweighting) -> dict[str, Any]:
    """About the mean weights of the rows of a run that were drawn, see `spread`.

    averages: "tokens" or "rows", what the method averages with its weights (`curate.protocols.RowReweighter`).
    """
    means, times = mean_weights(reweighting.state())
    drawn = means[times > 0].astype(np.float64)
    return {"rows_drawn": len(drawn), "averages": reweighting.averages, **spread(drawn)}


def spread(weights: Float64Array) -> dict[str, float]:
    """Mean, smallest and largest of m weights, and the effective share of the rows.

    The effective share is (sum w)^2 / (m sum w^2): 1 where all weigh alike.
    """
    squares = float((weights**2).sum())
    return {
        "mean": round(float(weights.mean()), 6),
        "smallest": round(float(weights.min()), 6),
        "largest": round(float(weights.max()), 6),
        "effective_share": round(float(weights.sum() ** 2 / (len(weights) * squares)), 6) if squares else 0.0,
    }


def write_weights(reweighting: Reweighting, ids: pa.Array, folder: Path) -> None:
    """weights.parquet: example_id, weight (the method's own, mean over the steps that drew the row; null if none did),
    times drawn."""
    means, times = mean_weights(reweighting.state())
    columns = {"example_id": ids, "weight": pa.array(means, mask=times == 0), "times": pa.array(times)}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    publish_file(folder / WEIGHTS, sink.getvalue().to_pybytes(), replace=True)


def read_weights(run: Path) -> tuple[pa.Array, FloatArray, IntArray]:
    """(m,) example ids, mean weights (NaN where never drawn) and times drawn, of a finished run or a file.

    Raises InputError where there are none.
    """
    path = run / WEIGHTS if run.is_dir() else run
    if not path.is_file():
        raise InputError(f"{run} holds no weights ({WEIGHTS}); name a run of `curate finetune --reweighter ...`")
    try:
        table = pq.read_table(path, columns=_SCHEMA.names).cast(_SCHEMA)
    except (OSError, pa.ArrowException, KeyError) as error:
        what = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a table of weights ({what}); name one that `curate finetune` wrote") from error
    times = pc.fill_null(table["times"], 0).to_numpy().astype(np.int64)
    return table["example_id"].combine_chunks(), table["weight"].to_numpy().astype(np.float32), times
