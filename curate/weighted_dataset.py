"""Add the row weights learned in fine-tuning runs to a dataset as a column."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.component import fingerprint
from curate.curated import data_record
from curate.data.invalid_rows import rejected_table
from curate.data.readers import Loaded, read
from curate.data.writers import hand_back, write_parquet_shards, written_tables
from curate.data.written_form import written_form
from curate.errors import DataWarning, InputError
from curate.finetuning.data import curated_reading
from curate.finetuning.weights import RunWeights, run_weights, spread
from curate.mixture.mixture import WEIGHT
from curate.report.dataset_card import content_version, weighted_card
from curate.report.trainer_snippets import dataset_info, form_of
from curate.storage.atomic import publish_file, publishing
from curate.storage.folders import begin, check_directory, finish
from curate.storage.places import arrow_path, expanded, local_path
from curate.storage.records import made_by
from curate.types import FloatArray


def add_weights(
    data: Any,
    weights: Path | str | Sequence[Path | str],
    *,
    normalize: bool = False,
    out: Path | str | None = None,
    **reading: Any,
) -> WeightedDataset:
    """Add the weight that a reweighter learned for each row in one or more fine-tuning runs.

    data, reading: as for `curate.read`, or its result; also a folder written by curation.
    weights: folders of `curate finetune --reweighter ...`, or their weights.parquet; joined by example id. A row gets
        the mean over the runs. A run without a weight for a row, because it did not have or did not draw it, counts
        with its own mean weight.
    normalize: divide by the mean over the rows, which is then 1.
    out: folder for the result, replacing an earlier one; None = only return it.

    Raises InputError for data with a column `weight`, for weights of other rows (an id that no row has), and if all
    weights are 0.
    """
    if "normalise" in reading:
        warnings.warn("normalise=... is called normalize now; rename it", DataWarning, stacklevel=2)
        normalize = bool(reading.pop("normalise"))
    if out is not None:
        check_place(data, local_path(out))
    loaded = data if isinstance(data, Loaded) else read(data, allow_curated=True, **curated_reading(data, reading)[0])
    if isinstance(data, Loaded) and reading:
        raise InputError(f"the data is already read, so {next(iter(reading))}=... has no effect; pass it to read()")
    if WEIGHT in loaded.examples.table.column_names:
        raise InputError(f"the data has a column {WEIGHT!r}, and so has the result; rename or remove that of the data")
    paths = [weights] if isinstance(weights, Path | str) else list(weights)
    if not paths:
        raise InputError("there are no weights; name a run of `curate finetune --reweighter ...`")
    runs = tuple(run_weights(expanded(path), loaded.examples) for path in paths)
    if not any(run.filled().any() for run in runs):
        raise InputError("all weights are 0, so nothing would be learned; name runs of another reweighter")
    weighted = WeightedDataset(loaded, runs, normalize)
    if out is not None:
        weighted.write(out)
    return weighted


def check_place(data: Any, out: Path) -> None:
    """Raise InputError if the result would overwrite its own input."""
    if isinstance(data, str | Path) and expanded(data).resolve().is_relative_to(out.resolve()):
        raise InputError(f"--out {out} holds the data itself; name another folder")
    check_directory(out, "", fresh=True)


@dataclass(frozen=True)
class WeightedDataset:
    """n rows and their weights.

    dataset: the rows in the type and order of the input, with a column `weight` of float32, and `example_id` if they
        had none.
    """

    loaded: Loaded
    runs: tuple[RunWeights, ...]
    normalize: bool = False

    @cached_property
    def weights(self) -> FloatArray:
        """(n,) weight of each row, the mean over the runs."""
        mean = np.mean([run.filled() for run in self.runs], axis=0)
        return (mean / mean.mean() if self.normalize else mean).astype(np.float32)

    @property
    def averages(self) -> str:
        """What a training run must average to reproduce these runs: "rows" if all averaged rows, else "tokens"."""
        return "rows" if all(run.averages == "rows" for run in self.runs) else "tokens"

    @property
    def dataset(self) -> Any:
        return hand_back(self.loaded, np.arange(len(self)), self.columns())

    def __len__(self) -> int:
        return len(self.loaded.examples)

    def columns(self) -> pa.Table:
        """The columns added to the input's."""
        examples = self.loaded.examples
        id_column = {} if "example_id" in examples.table.column_names else {"example_id": examples.ids}
        return pa.table({**id_column, WEIGHT: pa.array(self.weights)})

    @cached_property
    def inputs(self) -> str:
        """Fingerprint of everything that affects the result."""
        examples = self.loaded.examples
        run_values = [[run.weights, run.times] for run in self.runs]
        rows = [examples.fingerprint(), examples.table_fingerprint(), self.loaded.rejected]
        form = [self.loaded.nested] if self.loaded.nested != "json" else []
        return fingerprint([*rows, run_values, self.normalize, *form])

    @property
    def counts(self) -> dict[str, Any]:
        """Number of rows, sum of weights, and numbers of rows drawn in all runs, in some only, and in none."""
        run_counts = np.sum([run.drawn for run in self.runs], axis=0)  # (n,)
        return {
            "input": len(self),
            "output": len(self),
            "rejected": len(self.loaded.rejected),
            "output_weighted": round(float(self.weights.sum(dtype=np.float64)), 3),
            "drawn": int((run_counts == len(self.runs)).sum()),
            "drawn_by_some": int(((run_counts > 0) & (run_counts < len(self.runs))).sum()),
            "not_drawn": int((run_counts == 0).sum()),
        }

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Warnings in the form of run.json, each with a remedy."""
        warnings_found = [
            (
                "other_text",
                f"{run.path} was trained on other text under the same ids.",
                "Name the data it was trained on, or see that this is meant.",
            )
            for run in self.runs
            if run.same_text is False
        ]
        if len({run.averages for run in self.runs}) > 1:
            warnings_found += [
                (
                    "averages",
                    "Some of these runs averaged rows with their weights, others tokens.",
                    "Use runs of one reweighter.",
                )
            ]
        share = self.counts["not_drawn"] / len(self)
        if share > 0.05:
            warnings_found += [
                (
                    "not_drawn",
                    f"{share:.1%} of the rows were drawn in no run and have the mean weight.",
                    "Train for at least one epoch to weight every row.",
                )
            ]
        return [{"code": code, "message": message, "remedy": remedy} for code, message, remedy in warnings_found]

    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        return {
            "kind": "weighed",
            "inputs": self.inputs,
            **made_by(),
            "data": data_record(self.loaded, self.loaded.examples.fingerprint()),
            "form": asdict(written_form(self.loaded.examples, written_tables(self.loaded)[0])),
            "runs": [run.record() for run in self.runs],
            "normalized": self.normalize,
            "averages": self.averages,
            "counts": self.counts,
            "weights": spread(self.weights.astype(np.float64)),
            "warnings": self.warnings,
            "cost": _cost(self.runs),
        }

    def write(self, directory: Path | str) -> Path:
        """Write data/, tables/, README.md, dataset_info.json and, last, run.json; replaces an earlier result.

        Raises InputError for a folder of other files and ExternalError if the disk is full.
        """
        directory, record = Path(directory), self.record()
        check_directory(directory, self.inputs, fresh=True)
        begin(directory, self.inputs)
        with publishing(directory / "tables") as folder:
            self._write_tables(folder)
        with publishing(directory / "data") as folder:
            self._write_rows(folder)
        publish_file(directory / "README.md", weighted_card(record, content_version(directory / "data")))
        publish_file(directory / "dataset_info.json", dataset_info(form_of(record)))
        (directory / "report.html").unlink(missing_ok=True)  # of a curated dataset that stood here
        finish(directory, record)
        return directory

    def _write_rows(self, folder: Path) -> None:
        write_parquet_shards(written_tables(self.loaded), np.arange(len(self)), self.columns(), folder)

    def _write_tables(self, folder: Path) -> None:
        run_counts = np.sum([run.drawn for run in self.runs], axis=0, dtype=np.int32)
        times = np.sum([run.times for run in self.runs], axis=0)
        ids = self.loaded.examples.ids
        weights = pa.table({"example_id": ids, WEIGHT: self.weights, "runs": run_counts, "times": times})
        pq.write_table(weights, arrow_path(folder / "weights.parquet"), compression="zstd")
        pq.write_table(
            rejected_table(self.loaded.rejected), arrow_path(folder / "rejected.parquet"), compression="zstd"
        )


def _cost(runs: Sequence[RunWeights]) -> dict[str, Any]:
    """Cost of the weights: the runs, and the curation of their data. seconds: None if some are not known."""
    stages: list[dict[str, Any]] = []
    for run in runs:
        training, before = run.run.get("training") or {}, run.run.get("curation") or {}
        name = run.path.name if run.path.is_dir() else run.path.parent.name
        cost = {"seconds": training.get("seconds"), "tokens": training.get("tokens"), "cached": False}
        stages.append({"name": f"fine-tuning run {name}", **cost})
        if before:
            cost = {"seconds": before.get("seconds"), "tokens": before.get("tokens"), "cached": False}
            stages.append({"name": f"curation before {name}", **cost})
    seconds = [stage["seconds"] for stage in stages]
    parameters: list[Any] = [(run.run.get("model") or {}).get("parameters") for run in runs]
    return {
        "stages": stages,
        "seconds": None if None in seconds else round(sum(seconds), 3),
        "parameters": None if None in parameters else max(parameters),
    }
