"""Incremental scoring for `curate score --like DIR` and `curate run --reuse DIR`: keep known rows, score new ones."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.cli.fields import reading
from curate.cli.options import permissions
from curate.cli.steps import run_from
from curate.console.progress import Progress
from curate.data.joining import joined
from curate.data.readers import Loaded, read
from curate.difficulty.scores import Scores, Split
from curate.errors import InputError
from curate.mixture.growth import Drift, KeptRun, drift, kept_run, reading_of, score_like, together
from curate.mixture.rescoring import Rescored
from curate.pipeline import Pipeline
from curate.storage.records import read_finished
from curate.types import BoolArray

_OWN = ("proxy", "seed", "stability", "evaluation", "scores", "set", "score_sample", "score_budget")


@dataclass(frozen=True)
class Grown:
    """All rows of a command, scored: those that a finished run already scored, and new ones.

    known: (n,) bool, rows of the finished run. measured: the new rows in their order; None if there are none.
    """

    kept: KeptRun
    loaded: Loaded
    known: BoolArray
    measured: Rescored | None

    @cached_property
    def scores(self) -> Scores:
        """Of all rows, in their order."""
        ids = self.loaded.examples.ids
        if self.measured is None:
            rows = pc.index_in(ids, value_set=self.kept.split.ids.cast(ids.type)).to_numpy()
            return self.kept.scores.take(rows).with_ids(ids)
        return together(self.kept.scores, self.measured.scores, ids)

    @property
    def assigned(self) -> dict[str, Any]:
        """Columns cluster and hard of all rows: of the finished run, and by its clusters."""
        ids = self.loaded.examples.ids
        own = pc.index_in(ids.filter(pa.array(self.known)), value_set=self.kept.split.ids.cast(ids.type)).to_numpy()
        columns = {}
        for name in ("cluster", "hard"):
            column = np.zeros(len(ids), getattr(self.kept.split, name).dtype)  # (n,)
            column[self.known] = getattr(self.kept.split, name)[own]
            if self.measured is not None:
                column[~self.known] = getattr(self.measured, name)
            columns[name] = column
        return columns

    @cached_property
    def drift(self) -> Drift | None:
        return None if self.measured is None else drift(self.kept.scores.difficulty, self.measured.difficulty)

    def notes(self) -> list[str]:
        """Lines on what was measured, and whether the new rows are like the others."""
        kept, known, measured = self.kept, int(self.known.sum()), self.measured
        if measured is None:
            return [f"  no new rows: all {known:,} were scored by {kept.directory}"]
        own = kept.split.hard[kept.split.valid].mean() if kept.split.valid.any() else 0.0
        lines = [
            f"  {known:,} rows keep the scores of {kept.directory}, {len(measured):,} new ones are measured on its "
            f"checkpoints: {int(measured.hard.sum()):,} of these hard ({measured.hard_rate:.1%}; before: {own:.1%})"
        ]
        if self.drift is not None and self.drift.warns:
            lines.append(
                f"  warning: the new rows differ from the rows before (Kolmogorov-Smirnov {self.drift.statistic:.2f} "
                f"on difficulty; {self.drift.critical:.2f} is chance at 1 %): train a proxy on all of them, with "
                "curate run without --reuse"
            )
        return lines

    def record(self) -> dict[str, Any]:
        """For --json."""
        test = self.drift
        return {
            "known": int(self.known.sum()),
            "new": int((~self.known).sum()),
            "new_hard": 0 if self.measured is None else int(self.measured.hard.sum()),
            "drift": None
            if test is None
            else {"statistic": test.statistic, "critical": test.critical, "warning": test.warns},
        }

    def changed_sides(self, split: Split) -> tuple[int, int]:
        """Of the rows that both have, how many became hard, and how many easy. split: of all rows."""
        ids = split.ids.cast(pa.string())
        places = pc.index_in(self.kept.split.ids.cast(pa.string()), value_set=ids)
        here = pc.is_valid(places).to_numpy(zero_copy_only=False)
        before, after = self.kept.split.hard[here], split.hard[places.drop_null().to_numpy()]
        return int((~before & after).sum()), int((before & ~after).sum())


def pipeline_of(directory: Path, options: argparse.Namespace, option: str) -> Pipeline:
    """The recipe of a finished run. InputError if an option would change it; option: what named the run."""
    for name in _OWN:
        if getattr(options, name, None):
            raise InputError(f"{option} takes the recipe of {directory}; leave out --{name.replace('_', '-')}")
    if options.recipe != "quick":
        raise InputError(f"{option} takes the recipe of {directory}; leave out --recipe")
    return Pipeline.from_yaml(read_finished(directory)["recipe_yaml"], allow_plugins=permissions(options))


def read_grown(
    directory: Path, data: list[str], pipeline: Pipeline, options: argparse.Namespace, progress: Progress
) -> Loaded:
    """The rows of all `data`, concatenated, read like those of the finished run unless options say otherwise."""
    read_options = reading(options)
    record = read_finished(directory)
    if read_options["columns"] is None and read_options["shape"] is None:
        read_options |= reading_of(record)
    with progress.stage("read"):
        try:
            parts = [read(source, seed=pipeline.seed, **read_options) for source in data]
        except InputError as error:
            raise InputError(f"rows are read like those of {directory}: {error}") from error
        loaded = parts[0]
        if len(parts) > 1:
            table = joined([part.examples.table for part in parts], [Path(part.description) for part in parts])
            again = {name: read_options[name] for name in ("columns", "role", "shape", "on_bad_row", "nested")}
            loaded = read(table, seed=pipeline.seed, **again)
            loaded = replace(
                loaded,
                description=" + ".join(part.description for part in parts),
                kind="file",
                original=None,
                rows_read=sum(part.rows_read for part in parts),
                card=parts[0].card,
            )
    progress.note(f"{len(loaded.examples):,} of {loaded.rows_read:,} rows of {loaded.description}")
    for note in loaded.notes:
        progress.note(f"  {note}")
    return loaded


def grown(
    directory: Path, loaded: Loaded, pipeline: Pipeline, options: argparse.Namespace, progress: Progress
) -> Grown:
    """Score the rows that the finished run in `directory` does not have."""
    kept = kept_run(directory, pipeline.clusterer)
    known = kept.knows(loaded.examples.ids)
    if changed := kept.changed(loaded.examples):
        raise InputError(
            f"{len(changed):,} rows have an id that {directory} scored with other content, the first {changed[0]!r}; "
            "give changed rows new ids, or take all rows as new ones with --columns id="
        )
    measured = None
    if not known.all():
        new = loaded.examples.take(np.flatnonzero(~known))
        surroundings = run_from(options, pipeline, progress)
        measured = score_like(kept, new, pipeline.scorer, pipeline.clusterer, pipeline.proxy, surroundings)
    result = Grown(kept, loaded, known, measured)
    for note in result.notes():
        progress.note(note)
    return result
