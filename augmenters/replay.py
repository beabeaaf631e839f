"""Mix in rows of another dataset, so that what the model knew is not trained away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.component import Component
from curate.errors import InputError
from curate.examples import Examples
from curate.plan import NewRows, Plan, Realized, Request
from curate.run import Run
from curate.scores import Split

__all__ = ["Replay"]


class Replay(Component):
    """Fill `share` of the FINAL rows with a seeded sample of another dataset (cf. arXiv 2406.14833, strategy III).

    data: whatever `curate.read` takes: a file, folder or hub id (to be written in a recipe), or a table or frame.
    columns, shape, where: as for the input. Its roles are put into the input's columns of the same role; all
    other columns of those rows are null.
    """

    data: Any
    share: float = Field(gt=0, lt=1)
    columns: str | None = None
    shape: str | None = None
    where: str | None = None

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Only the share is planned; which rows is decided when the final number is known."""
        return plan.request(Request(self, "replay", seed, share=self.share))

    def realize(self, plan: Plan, examples: Examples, run: Run) -> Realized:
        """Raises InputError where the other dataset is too small or of another shape."""
        from curate.readers import read

        (request,) = plan.requests
        wanted = request.count or 0
        other = read(self.data, columns=self.columns, shape=self.shape, where=self.where).examples
        if other.shape != examples.shape:
            raise InputError(
                f"Replay data has shape {other.shape} but the input has {examples.shape}; "
                "give both the same shape, or name the columns with Replay.columns"
            )
        if wanted > len(other):
            raise InputError(
                f"Replay.share = {self.share:g} needs {wanted:,} rows but its data has {len(other):,}; lower the share"
            )
        rows = np.sort(np.random.default_rng(request.seed).choice(len(other), wanted, replace=False))
        sample = other.take(rows)
        ids = [f"replay:{value}" for value in sample.ids.to_pylist()]
        return Realized(NewRows(_as_input(sample, examples), ids, ids, "replay"))


def _as_input(sample: Examples, examples: Examples) -> pa.Table:
    """The sample's roles under the input's column names and types."""
    columns = []
    roles = {column: role for role, column in examples.columns.items()}
    for field in examples.table.schema:
        role = roles.get(field.name)
        if role is not None and role in sample.columns and role != "id":
            columns.append(sample.table.column(sample.columns[role]).cast(field.type))
        else:
            columns.append(pa.nulls(len(sample), field.type))
    return pa.table(columns, schema=examples.table.schema)
