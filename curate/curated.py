"""The result of a pipeline: a curated dataset with its scores, plan and record."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.clusterers.per_source import seeded
from curate.component import call_hook, describe_in_json, fingerprint
from curate.console.presentation import Facts, Tabular
from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.data.invalid_rows import _REJECTED, rejected_table
from curate.data.readers import Loaded
from curate.data.trainer_forms import in_form
from curate.data.writers import assemble, write_parquet_shards, written_tables
from curate.data.written_form import written_form
from curate.difficulty.diagnostics import Diagnostics
from curate.difficulty.score_files import scores_table, trajectories_table
from curate.difficulty.scores import Scores, Split
from curate.errors import InputError, RunWarning
from curate.generators.requests import Generator
from curate.mixture.forecast import Forecast, forecast
from curate.mixture.forecast_words import copies_by_forecast
from curate.mixture.input_rows import at_random, by_difficulty, curated_summary, described, first_words
from curate.mixture.judgment import judgment
from curate.mixture.mixture import Mixture
from curate.mixture.order import DATA_VERSION
from curate.mixture.plan import Plan, Realized
from curate.mixture.verdicts import BudgetForecast
from curate.models.loading import identify
from curate.report.dataset_card import content_version, dataset_card
from curate.report.run_page import write_report
from curate.report.trainer_snippets import dataset_info, form_of
from curate.run import Run
from curate.storage.atomic import publish_file, publishing, remove
from curate.storage.destination import Destination
from curate.storage.downloads import state_of
from curate.storage.folders import begin, check_directory, finish
from curate.storage.hashing import file_digest
from curate.storage.places import arrow_path, expanded, files_under, is_url
from curate.storage.records import made_by
from curate.types import IntArray

Recipe = Any  # `curate.Pipeline`, which imports this module


@dataclass(frozen=True)
class Stages:
    """Fingerprint of the result of each stage."""

    data: str
    scores: str
    split: str
    plan: str


@dataclass(repr=False)
class Curated(Tabular):
    """A curated dataset with its provenance; as a table, the rows of the result.

    dataset: the curated rows in the type of the input (DataFrame, Arrow table, Dataset, DatasetDict; a Dataset
        for files and hub ids), with the columns example_id, source_id, origin, copy, difficulty, cluster, hard, and
        weight if the pipeline has `copies="weights"`.
    contaminated: number of input rows that share text with an evaluation set of the gate.
    path: the folder that it was written to; None = not written yet.
    budget_forecast: predictions from held-out curves, if the pipeline has a `forecast`.
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
    path: Path | None = None
    budget_forecast: BudgetForecast | None = None

    @property
    def warnings(self) -> tuple[RunWarning, ...]:
        """Warnings about the split, the input and new rows, each with a remedy."""
        of_new_rows = [warning for part in self.realized for warning in part.summary.warnings]
        if self.budget_forecast is not None and any(
            getattr(augmenter, "times", None) == "auto" for augmenter in self.pipeline.augmenters
        ):
            of_new_rows.append(copies_by_forecast(self.budget_forecast.decision.times, bool(judgment().shown)))
        return (
            *self.diagnostics.warnings,
            *_contamination_warnings(self.contaminated, len(self.split.valid)),
            *of_new_rows,
        )

    @property
    def proxy_facts(self) -> dict[str, Any] | None:
        """Facts about the proxy run, for the record; None if no proxy was run."""
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
        """(m,) positions of the result's rows among the input rows followed by the new rows."""
        return self.mixture.positions

    @property
    def parts(self) -> dict[str, int] | None:
        """{name: rows} of the parts to train on in sequence; None if the order of rows does not matter.

        With order="front": "first" (with the copies) and "second"; None with copies="weights", since the weights apply
        to the first half of the steps instead. With Subset(epochs=E): "epoch1", ...
        """
        return self.mixture.parts

    @property
    def new_rows(self) -> pa.Table | None:
        """Rows that are not in the input, with the input's columns; None if there are none."""
        return self.mixture.new_rows

    def columns(self) -> pa.Table:
        """The columns that curation adds, in the final order."""
        return self.mixture.columns()

    def __len__(self) -> int:
        return len(self.mixture)

    def to_arrow(self) -> pa.Table:
        """The rows of the result, with the input's columns and the added ones."""
        return self._table

    @cached_property
    def _table(self) -> pa.Table:
        tables = written_tables(self.loaded, self.new_rows)
        return assemble(tables, self.positions, self.columns())

    def summary(self) -> Facts:
        """Numbers of rows, hard and new ones, warnings, and the folder."""
        return curated_summary(self.loaded, self.split, self.mixture, self.warnings, self.path)

    def hardest(self, n: int = 10) -> Any:
        """The n input rows of highest difficulty with their texts, hardest first, as a pandas.DataFrame."""
        return self._described(by_difficulty(self.split, n, hardest=True))

    def easiest(self, n: int = 10) -> Any:
        """The n input rows of lowest difficulty with their texts, easiest first, as a pandas.DataFrame."""
        return self._described(by_difficulty(self.split, n, hardest=False))

    def sample(self, n: int = 10, *, hard: bool | None = None, seed: int = 0) -> Any:
        """A random sample of n input rows as a pandas.DataFrame. hard: True = only hard rows, False = only easy."""
        return self._described(at_random(self.split, n, hard=hard, seed=seed))

    def _described(self, rows: IntArray) -> Any:
        return described(self.loaded.examples, self.split, self.plan, rows).to_pandas()

    def plot(self) -> Any:
        """Like `Split.plot`, with the first words of rows in tooltips."""
        return self.split.plot(lambda rows: first_words(self.loaded.examples, rows))

    def open_report(self) -> Path:
        """Open report.html of the result's folder in a browser; returns the path of the page."""
        if self.path is None:
            raise InputError("this result is in no folder yet; write it with curated.write(DIR), or run with out=DIR")
        page = self.path / "report.html"
        webbrowser.open(page.absolute().as_uri())
        return page

    def forecast(self) -> Forecast:
        """Forecast whether copies help: exposures, effective rows and slopes of the loss, see `Forecast`.

        Includes held-out curves to a planned budget if the pipeline has a `forecast`.
        """
        noise, facts = self.diagnostics.noise or {}, self.proxy_facts
        pipeline = self.pipeline
        return forecast(
            self.split,
            self.plan,
            self.realized,
            self.scores,
            order=pipeline.order,
            copies=pipeline.copies,
            suspects=noise.get("share_of_hard"),
            wrong_share=self.split.wrong_share,
            in_sample=None if facts is None else not facts.get("reference"),
            budget_forecast=self.budget_forecast,
        )

    @cached_property
    def rejected(self) -> pa.Table:
        """Every row that is not in the result, with the stage that rejected it and the reason.

        row: position in the input as read; null for rows that were never in it.
        """
        left_out = np.flatnonzero(self.plan.reason >= 0)  # (m,)
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

    def write(self, directory: Path | str) -> Path | str:
        """Write data/, tables/, README.md, dataset_info.json, report.html and, last, run.json.

        directory: a folder or URL, see `curate.storage.destination`; it is returned. An earlier result is replaced.
        Raises InputError for a folder of other files and ExternalError if the disk is full; the folder then counts as
        unfinished, and the same call resumes.
        """
        target = Destination.of(directory)
        inputs = inputs_fingerprint(self.pipeline, self.loaded, self.scores if self.given_scores else None)
        target.check(inputs, fresh=True)
        if target.place is not None:
            remove(target.folder)  # leftovers of an interrupted upload
        directory = target.folder
        check_directory(directory, inputs, fresh=True)
        with self.run.progress.stage("write"):
            begin(directory, inputs)
            with publishing(directory / "tables") as folder:
                self._write_tables(folder)
            with publishing(directory / "data") as folder:
                self._write_rows(folder)
            record = self.record()
        record |= {"inputs": inputs, "cost": _cost_record(self.run.progress)}
        publish_file(directory / "README.md", dataset_card(record, content_version(directory / "data")))
        publish_file(directory / "dataset_info.json", dataset_info(form_of(record)))
        # The report reads the folder, and the folder is finished only when run.json is there.
        write_report(directory, record=record)
        finish(directory, record)
        target.publish(self.run.progress.note)
        if target.place is not None:
            return str(target)
        self.path = directory
        return directory

    def record(self) -> dict[str, Any]:
        """Everything that is not a row: recipe, fingerprints, counts, diagnostics, versions."""
        pipeline = self.pipeline
        results = (self.scores, self.split, self.plan, self.realized)
        return {
            **made_by(),
            **({} if self.run.engine is None else {"engine": self.run.engine.record()}),
            "recipe": describe_in_json(pipeline),
            "recipe_yaml": recipe_text(pipeline),
            "seed": pipeline.seed,
            "data_version": DATA_VERSION,
            "data": data_record(self.loaded, self.stages.data),
            "proxy": self.proxy_facts,
            "stages": asdict(self.stages),
            "form": asdict(written_form(self.loaded.examples, self._written[0], self.loaded.write_as)),
            "counts": _count_rows(self.mixture, *results, self.rejected.num_rows),
            "parts": self.parts,
            "synthesis": [part.summary.record for part in self.realized if part.summary.record],
            "diagnostics": self.diagnostics.to_json(),
            "forecast": self.forecast().to_json(),
            "warnings": [{"code": w.code, "message": w.message, "remedy": w.remedy} for w in self.warnings],
            "clusterer": repr(seeded(pipeline.clusterer, pipeline.seed)),  # with its derived seed
        }

    @cached_property
    def _written(self) -> list[pa.Table]:
        """The input's rows, and new rows, in the columns of the written form, without the added ones."""
        examples, form = self.loaded.examples, self.loaded.write_as
        tables = written_tables(self.loaded, self.new_rows)
        parts = [examples]
        if form != "input" and self.new_rows is not None:
            ids = pa.array([str(k) for k in range(self.new_rows.num_rows)])
            parts.append(Examples(self.new_rows, ids, examples.shape, examples.columns))
        return tables if form == "input" else in_form(parts, tables, form)

    def _write_rows(self, folder: Path) -> None:
        """Write data/ as shards, with separate files for each part if the order matters."""
        tables, added, engine = self._written, self.mixture.added, self.run.engine
        parts = self.parts
        if parts is None:
            write_parquet_shards(tables, self.positions, added, folder, engine=engine)
            return
        start = 0
        for name, rows in parts.items():
            index = self.positions[start : start + rows]  # files in the order of their names
            write_parquet_shards(tables, index, added.part(start, rows), folder, name=f"train-{name}", engine=engine)
            start += rows

    def _write_tables(self, folder: Path) -> None:
        """Write the tables of scores, split, plan, rejected rows, trajectories and attempts."""
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
            pq.write_table(table, arrow_path(folder / f"{name}.parquet"), compression="zstd")

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
        if split.reducible is not None:
            columns["reducible"] = split.reducible.reducible
        return pa.table(columns)


def inputs_fingerprint(pipeline: Recipe, loaded: Loaded, scores: Scores | None) -> str:
    """Fingerprint of everything that affects a run's output: data, recipe, files of a local proxy, measures, scores.

    A measure contains the content of files that its scorer only names, such as a target set or a reference model.
    scores: those the user passed, in the order of rows, see `curate.difficulty.split.join_scores`.
    """
    loaded = loaded.as_read or loaded  # rows dropped later follow from the other inputs
    examples = loaded.examples
    decided_by = [examples.fingerprint(), examples.table_fingerprint(), loaded.rejected, pipeline]
    decided_by += [loaded.nested] if loaded.nested != "json" else []
    decided_by += [loaded.write_as] if loaded.write_as != "input" else []
    decided_by += [_files(getattr(augmenter, "data", None)) for augmenter in pipeline.augmenters]
    generators = [getattr(augmenter, "generator", None) for augmenter in pipeline.augmenters]
    decided_by += [generator.identity() if isinstance(generator, Generator) else None for generator in generators]
    sets = [item.get("data") if isinstance(item, dict) else item for item in pipeline.gate.evaluation]
    decided_by += [_files(data) for data in sets]
    if scores is None and (identity := call_hook(pipeline.scorer, "identity")):
        decided_by += identity
    if scores is not None:
        decided_by += [scores.difficulty, scores.features, scores.valid, scores.trajectory, scores.tokens]
        decided_by += [part for part in (scores.gains, scores.reducible) if part is not None]
    elif (measures := call_hook(pipeline.scorer, "measures")) is not None:
        decided_by += measures
        if expanded(pipeline.proxy.model).exists():
            decided_by.append(identify(pipeline.proxy.model))
    return fingerprint(decided_by)


def _files(data: Any) -> str | None:
    """Hash of the file or folder that an augmenter reads; None for a hub id or an object in memory."""
    if is_url(data):
        return state_of(data)
    if not isinstance(data, str | Path) or not expanded(data).exists():
        return None
    path = expanded(data)
    files = [path] if path.is_file() else sorted(files_under(path))
    return file_digest((file, file.name) for file in files)


def data_record(loaded: Loaded, key: str) -> dict[str, Any]:
    """Record of the data and how it was read. key: fingerprint of the examples."""
    examples = loaded.examples
    return {
        "source": loaded.description,
        "read": {"data": loaded.place, **json.loads(json.dumps(dict(loaded.arguments)))},
        "rows_read": loaded.rows_read,
        "rows_used": len(examples),
        **examples.reading,
        "notes": list(loaded.notes),
        "card": dict(loaded.card),
        "fingerprint": key,
    }


def recipe_text(pipeline: Recipe) -> str:
    """The recipe as YAML, or a comment with the reason why it cannot be written."""
    try:
        return str(pipeline.to_yaml())
    except InputError as error:  # a plug-in may live where no recipe can name it; the run is still recorded
        return f"# {error}\n"


def _count_rows(
    mixture: Mixture, scores: Scores, split: Split, plan: Plan, realized: Sequence[Realized], rejected: int
) -> dict[str, int]:
    """Numbers of rows before and after, by kind, and of tokens if known. rejected: number of rejected
    rows and of proposed problems that were not kept."""
    proposed = sum(len(part.rejected) for part in realized)
    by_origin = mixture.origins
    counts = {
        "input": len(split.valid),
        "valid": int(split.valid.sum()),
        "invalid": int((~split.valid).sum()),
        "hard": int(split.hard.sum()),
        "easy": int((split.valid & ~split.hard).sum()),
        "noise": int((split.cluster == -1).sum()),
        "rejected": rejected - proposed,
        **({"rejected_proposals": proposed} if proposed else {}),
        "output": len(mixture),
        **{name: by_origin.get(name, 0) for name in ("original", "duplicate", "replay", "synthetic")},
    }
    weighted = mixture.copies == "weights"
    if weighted:
        counts["output_weighted"] = int(mixture.weights.sum(dtype=np.float64))
    if scores.tokens is not None:
        measured = [part.rows.measured for part in realized]
        new = sum(
            int(measurements.tokens.sum())
            for measurements in measured
            if measurements is not None and measurements.tokens is not None
        )
        tokens = scores.tokens.astype(np.int64)  # (n,)
        counts["tokens_before"] = int(tokens.sum())
        counts["tokens_after"] = int((tokens * (plan.counts > 0 if weighted else plan.counts)).sum()) + new
        if weighted:
            counts["tokens_weighted"] = int((tokens * plan.counts).sum()) + new
    return counts


def _cost_record(progress: Progress) -> dict[str, Any]:
    """Seconds and tokens of every stage so far, and total seconds."""
    stages = [
        {"name": cost.name, "seconds": round(cost.seconds, 3), "tokens": cost.tokens, "cached": cost.cached}
        for cost in progress.costs
    ]
    return {"stages": stages, "seconds": round(sum(cost.seconds for cost in progress.costs), 3)}


def _contamination_warnings(count: int, rows: int) -> list[RunWarning]:
    if not count:
        return []
    return [
        RunWarning(
            "input_overlaps_evaluation",
            f"{count:,} of {rows:,} input rows share text with an evaluation set.",
            "`curate gate DATA --evaluation SET --clean FILE` shows them and writes the data without them.",
        )
    ]
