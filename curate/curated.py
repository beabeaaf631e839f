"""The result of a pipeline: which rows, in which order, and what is known about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.mixture import Mixture
from curate.plan import Plan, Realized
from curate.scores import Scores, Split

if TYPE_CHECKING:
    from curate.diagnostics import Diagnostics
    from curate.pipeline import Pipeline
    from curate.readers import Loaded
    from curate.run import Run

__all__ = ["Curated", "Stages"]


@dataclass(frozen=True)
class Stages:
    """Fingerprint of what each stage made."""

    data: str
    scores: str
    split: str
    plan: str


@dataclass
class Curated:
    """A curated dataset and how it came about.

    dataset: the curated rows, of the kind that came in (DataFrame, Arrow table, Dataset, DatasetDict; a Dataset
        for files and hub ids), with the columns example_id, source_id, origin, copy, difficulty, cluster, hard.
    """

    pipeline: Pipeline
    loaded: Loaded
    run: Run
    scores: Scores
    split: Split
    diagnostics: Diagnostics
    plan: Plan
    realized: list[Realized]
    stages: Stages
    given_scores: bool = False

    @property
    def proxy_facts(self) -> dict[str, Any] | None:
        """What is worth reporting about the proxy run; None where no proxy was run."""
        return None if self.given_scores else self.run.facts(self.loaded.examples)

    @cached_property
    def mixture(self) -> Mixture:
        return Mixture(self.loaded, self.split, self.plan, self.realized, self.pipeline.order, self.pipeline.seed)

    @property
    def dataset(self) -> Any:
        return self.mixture.dataset

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """(m,) positions of the result's rows in the input rows followed by the new rows."""
        return self.mixture.positions

    @property
    def new_rows(self) -> pa.Table | None:
        """Rows that are not in the input, with the input's columns; None if there are none."""
        return self.mixture.new_rows

    def columns(self) -> pa.Table:
        """The columns that the dataset has beyond the input's, in the final order."""
        return self.mixture.columns()

    def __len__(self) -> int:
        return len(self.mixture)

    def write(self, directory: Path | str) -> Path:
        """The full output of `curate run` in a folder; see `curate.output`."""
        from curate.output import write_output

        return write_output(self, Path(directory))

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Every row that is not in the result, or could not be used, with its stage and reason."""
        ids = self.loaded.examples.ids
        yield from self.loaded.rejected
        for row in np.flatnonzero(~self.split.valid).tolist():
            yield _record(
                row, ids[row].as_py(), "score", "no completion text within max_length (kept once, not clustered)"
            )
        for row in np.flatnonzero(self.plan.reason >= 0).tolist():
            yield _record(row, ids[row].as_py(), "plan", self.plan.reasons[self.plan.reason[row]])
        for part in self.realized:
            yield from part.rejected


def _record(row: int | None, example_id: str, stage: str, reason: str) -> dict[str, Any]:
    return {"row": row, "example_id": example_id, "stage": stage, "reason": reason, "content": None}
