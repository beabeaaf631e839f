"""The result of a pipeline: a curated dataset with its scores, plan and record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.clusterers import seeded
from curate.component import describe
from curate.data.invalid_rows import _REJECTED, rejected_table
from curate.data.readers import Loaded
from curate.data.writers import write_parquet_shards
from curate.difficulty.diagnostics import Diagnostics
from curate.difficulty.score_files import scores_table, trajectories_table
from curate.difficulty.scores import Scores, Split
from curate.errors import RunWarning
from curate.mixture.mixture import Mixture
from curate.mixture.plan import Plan, Realized
from curate.mixture.screening import contamination_warnings
from curate.report import write_report
from curate.report.dataset_card import content_version, dataset_card
from curate.run import Run
from curate.run_record import Recipe, cost_record, count_rows, data_record, inputs_fingerprint, recipe_text
from curate.storage.atomic import publish_file, publishing
from curate.storage.folders import begin, check_directory, finish
from curate.storage.records import made_by
from curate.types import IntArray

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
    """A curated dataset and how it was made.

    dataset: the curated rows, of the kind that came in (DataFrame, Arrow table, Dataset, DatasetDict; a Dataset
        for files and hub ids), with the columns example_id, source_id, origin, copy, difficulty, cluster, hard, and
        where the pipeline says `copies="weights"` weight.
    contaminated: rows of the input that share text with an evaluation set of the gate.
    """

    pipeline: Recipe
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
        made = [warning for part in self.realized for warning in part.summary.warnings]
        return (*self.diagnostics.warnings, *contamination_warnings(self.contaminated, len(self.split)), *made)

    @property
    def proxy_facts(self) -> dict[str, Any] | None:
        """Facts about the proxy run, for the record; None where no proxy was run."""
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

    def write(self, directory: Path | str) -> Path:
        """data/, tables/, README.md, report.html and, last, run.json; replaces an earlier result.

        Raises InputError for a folder of other files and ExternalError where the disk is full; the folder then counts
        as unfinished, and the same call resumes.
        """
        directory = Path(directory)
        inputs = inputs_fingerprint(self.pipeline, self.loaded, self.scores if self.given_scores else None)
        check_directory(directory, inputs, fresh=True)
        with self.run.progress.stage("write"):
            begin(directory, inputs)
            with publishing(directory / "tables") as folder:
                self._write_tables(folder)
            with publishing(directory / "data") as folder:
                self._write_rows(folder)
            record = self.record()
        record |= {"inputs": inputs, "cost": cost_record(self.run.progress)}
        publish_file(directory / "README.md", dataset_card(record, content_version(directory / "data")))
        # The report reads the folder, and the folder is finished only when run.json is there.
        write_report(directory, record=record)
        finish(directory, record)
        return directory

    def record(self) -> dict[str, Any]:
        """Everything that is not a row: recipe, fingerprints, counts, diagnostics, versions."""
        pipeline = self.pipeline
        made = (self.scores, self.split, self.plan, self.realized)
        return {
            **made_by(),
            "recipe": describe(pipeline),
            "recipe_yaml": recipe_text(pipeline),
            "seed": pipeline.seed,
            "data": data_record(self.loaded, self.stages.data),
            "proxy": self.proxy_facts,
            "stages": asdict(self.stages),
            "counts": count_rows(self.mixture, *made, self.rejected.num_rows),
            "synthesis": [part.summary.record for part in self.realized if part.summary.record],
            "diagnostics": self.diagnostics.to_json(),
            "warnings": [{"code": w.code, "message": w.message, "remedy": w.remedy} for w in self.warnings],
            "clusterer": repr(seeded(pipeline.clusterer, pipeline.seed)),  # as it was used, its derived seed included
        }

    def _write_rows(self, folder: Path) -> None:
        tables = [self.loaded.examples.table]
        if self.new_rows is not None:
            tables.append(self.new_rows)
        write_parquet_shards(tables, self.positions, self.columns(), folder)

    def _write_tables(self, folder: Path) -> None:
        ids = self.loaded.examples.ids
        scores, plan = self.scores, self.plan
        tables = {"scores": scores_table(scores, ids), "split": self._split_table()}
        if scores.trajectory is not None:
            tables["trajectories"] = trajectories_table(scores, ids)
        reason = pa.array(plan.reason, mask=plan.reason < 0)
        names = pa.array(list(plan.reasons) or [""], pa.string())
        tables["plan"] = pa.table({"example_id": ids, "count": plan.counts, "reason": names.take(reason)})
        tables["rejected"] = self.rejected
        attempts = [part.summary.attempts for part in self.realized if part.summary.attempts is not None]
        if attempts:
            tables["synthesis"] = pa.concat_tables(attempts)
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")

    def _split_table(self) -> pa.Table:
        split = self.split
        columns: dict[str, Any] = {"example_id": split.ids}
        if split.sources is not None:
            columns["source"] = pa.array(split.sources, pa.string())
        columns |= {
            "cluster": split.cluster,
            "hard": split.hard,
            "difficulty": pa.array(split.difficulty, mask=~split.valid),
            "noise_suspect": self.diagnostics.noise_suspect,
        }
        return pa.table(columns)
