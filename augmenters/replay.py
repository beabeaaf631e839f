"""Mix in rows of another dataset to reduce forgetting."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curate.data.examples import Examples
from curate.data.readers import Loaded, name_of, read_for
from curate.data.wording import type_name
from curate.dataset_reference import Reading
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.plan import Demand, NewRows, Plan, Realized
from curate.run import Run


class Replay(Reading):
    """Fill `share` of the FINAL rows with a seeded sample of another dataset (cf. arXiv 2406.14833, strategy III).

    The share counts rows; the paper counts tokens and keeps the proportions of the earlier mixture. With
    `Subset(epochs=E)` the sample is for all epochs together: each gets its share, of different rows.

    data: anything that `curate.read` accepts: a file, folder or hub id (required in a recipe), or a table or frame.
    columns, role, shape, where, split, config, encoding, delimiter, on_bad_row: as for the input (see `curate.read`).
        Its roles are put into the input's columns of the same role; all other columns of those rows are null.
    limit: draw from a sample of that many rows.
    """

    data: Any
    share: float = Field(gt=0, lt=1)
    on_bad_row: Literal["error", "drop"] = "error"

    added: ClassVar[frozenset[str]] = Reading.added | {"limit"}

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Plan only the share; the rows are chosen when the final number is known."""
        return plan.demand(Demand(self, "replay", seed, share=self.share))

    def check_examples(self, examples: Examples) -> None:
        """Raise InputError if the other dataset cannot be read or does not fit the input."""
        _as_input(self._read(examples).examples.take(np.arange(1)), examples, self._name)

    def realize(self, plan: Plan, examples: Examples, run: Run) -> Realized:
        """Raises InputError if the other dataset cannot be read, is too small, or does not fit the input.

        Its unusable rows are added to the rejected ones if `on_bad_row` is "drop".
        """
        (demand,) = plan.demands
        count = demand.count or 0
        loaded = self._read(examples)
        replayed = loaded.examples
        if count > len(replayed):
            raise InputError(
                f"{self._name}: Replay.share = {self.share:g} needs {count:,} rows but it has {len(replayed):,}; "
                "lower the share"
            )
        rows = np.sort(np.random.default_rng(demand.seed).choice(len(replayed), count, replace=False))
        sample = replayed.take(rows)
        ids = [f"replay:{value}" for value in sample.ids.to_pylist()]
        rejected = [{**record, "stage": "replay"} for record in loaded.rejected]
        return Realized(NewRows(_as_input(sample, examples, self._name), ids, ids, "replay"), rejected)

    @property
    def _name(self) -> str:
        return f"Replay data {name_of(self.data)}"

    def _read(self, examples: Examples) -> Loaded:
        """The other dataset, if it has the shape of the input."""
        loaded = read_for("Replay", "data", self.data, **self.reading, on_bad_row=self.on_bad_row)
        if loaded.examples.shape != examples.shape:
            raise InputError(
                f"{self._name}: it has shape {loaded.examples.shape} but the input has {examples.shape}; "
                "give both the same shape, or name the columns with Replay.columns"
            )
        if loaded.examples.paired != examples.paired:
            pairs, messages_of = (self._name, "the input") if loaded.examples.paired else ("the input", self._name)
            raise InputError(f"{pairs} holds preference pairs and {messages_of} does not; give both or none of them")
        if examples.made is not None:
            raise InputError(
                "Replay needs pairs with a column of prompts and two of answers, each read as it is; rewrite the input"
            )
        return loaded


def _as_input(sample: Examples, examples: Examples, name: str) -> pa.Table:
    """The sample's roles under the input's column names and types. name: of the sample's data, for messages."""
    columns = []
    # A column may be both completion and final answer: the role that is trained on comes first.
    order = [*examples.content_roles, *(role for role in examples.columns if role not in examples.content_roles)]
    for field in examples.table.schema:
        roles = [role for role in order if examples.columns[role] == field.name and role != "id"]
        role = next((role for role in roles if role in sample.columns), None)
        cells = pa.nulls(len(sample), field.type) if role is None else sample.column(role)
        if cells.null_count and not field.nullable:
            raise InputError(
                f"{name}: its rows have no value for the input's column {field.name!r}, which is declared as never "
                "null; store the input with a nullable column (pandas does), or leave the column out"
            )
        try:
            columns.append(cells.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"{name}: its {role} holds {type_name(cells.type)}, which does not fit the input's column "
                f"{field.name!r} of {type_name(field.type)}; convert one of them"
            ) from error
    return pa.table(columns, schema=examples.table.schema)
