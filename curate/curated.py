"""The result of a pipeline: which rows, in which order, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate.mixture import Mixture
from curate.plan import Plan, Realized
from curate.scores import Scores, Split
from curate.types import IntArray

if TYPE_CHECKING:
    from curate.diagnostics import Diagnostics
    from curate.errors import RunWarning
    from curate.pipeline import Pipeline
    from curate.readers import Loaded
    from curate.run import Run

__all__ = ["Curated", "Stages", "rejected_table"]


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
        for files and hub ids), with the columns example_id, source_id, origin, copy, difficulty, cluster, hard, and
        where the pipeline says `copies="weights"` weight.
    contaminated: rows of the input that share text with an evaluation set of the gate.
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
    contaminated: int = 0

    @property
    def warnings(self) -> tuple[RunWarning, ...]:
        """About the split, the input and what was made, each with what to do."""
        from curate.admission import contamination_warnings
        from curate.synthesis.advice import synthesis_warnings

        made = [warning for part in self.realized for warning in synthesis_warnings(part.record)]
        return (*self.diagnostics.warnings, *contamination_warnings(self.contaminated, len(self.split)), *made)

    @property
    def proxy_facts(self) -> dict[str, Any] | None:
        """What is worth reporting about the proxy run; None where no proxy was run."""
        return None if self.given_scores else self.run.facts(self.loaded.examples)

    @cached_property
    def mixture(self) -> Mixture:
        pipeline = self.pipeline
        parts = (self.loaded, self.split, self.plan, self.realized)
        return Mixture(*parts, pipeline.order, pipeline.seed, pipeline.copies)

    @property
    def dataset(self) -> Any:
        return self.mixture.dataset

    @property
    def positions(self) -> IntArray:
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

    @cached_property
    def rejected(self) -> pa.Table:
        """Every row that is not in the result, with the stage that left it out and the reason.

        row: position in the input as read; null for rows that were never in it.
        """
        left_out = np.flatnonzero(self.plan.reason >= 0)
        reasons = pa.array(list(self.plan.reasons) or [""], pa.string())
        planned = pa.table(
            {
                "row": self.loaded.rows[left_out],
                "example_id": self.loaded.examples.ids.take(pa.array(left_out)),
                "stage": pa.repeat(pa.scalar("plan"), len(left_out)),
                "reason": reasons.take(pa.array(self.plan.reason[left_out])),
                "content": pa.nulls(len(left_out), pa.string()),
            }
        ).cast(_REJECTED)
        realized = [record for part in self.realized for record in part.rejected]
        return pa.concat_tables([rejected_table(self.loaded.rejected), planned, rejected_table(realized)])


_REJECTED = pa.schema(
    [
        ("row", pa.int64()),
        ("example_id", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("content", pa.string()),
    ]
)


def rejected_table(records: list[dict[str, Any]]) -> pa.Table:
    """Records of rows that were left out, as tables/rejected.parquet has them."""
    return pa.Table.from_pylist([{name: each.get(name) for name in _REJECTED.names} for each in records], _REJECTED)
