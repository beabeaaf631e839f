"""Validate a recipe end to end; an interrupted call is resumed by the same call."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.console.progress import Progress, as_progress
from curate.data.readers import Loaded, read
from curate.difficulty.scores import Scores
from curate.engine.protocol import Engine
from curate.errors import InputError
from curate.finetuning.job import tokenized, with_length
from curate.models.model_files import has_initial_weights
from curate.models.trained_template import choose_template
from curate.run import Run
from curate.storage.places import expanded, local_path
from curate.storage.temporary import temporary_folder
from curate.tokenization.usable import Rules, check_usable, without_refused
from curate.training.trackers import Callback, check_trackers
from curate.validation.arms import Arms
from curate.validation.config import (
    REDUCIBLE,
    SOURCE_BALANCED,
    Validation,
    copying,
    of_reducible_rows,
    synthesizing,
)
from curate.validation.evaluation_rows import Prepared, prepare
from curate.validation.experiment import Experiment, PlannedRun
from curate.validation.folder import check_folder, check_weights, describe, describe_sets, mark_started
from curate.validation.pilot import hopeless_in_words, pilot
from curate.validation.record import write_results
from curate.validation.runs import check_workers, complete_run, finish_run, runs_on_workers


def validate(
    data: Any,
    settings: Validation,
    out: Path | str,
    *,
    scores: Scores | None = None,
    cache: Any = None,
    device: str | None = None,
    progress: Progress | bool | None = None,
    time_limit: float | None = None,
    fresh: bool = False,
    log: Sequence[str | Callback] = (),
    engine: Engine | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Validate a recipe on `data` and write the result to a folder; returns its run.json.

    prepare -> pilot -> arms -> (finetune -> evaluate) per seed and arm -> compare after every seed

    data, reading: arguments of `curate.read`, or its result. scores: difficulty measured earlier.
    log: further destinations of every run's metrics, as in `curate.finetune`.
    time_limit: seconds after which ExternalError is raised, also inside a run; the same call resumes from there.
    engine: its workers fine-tune and evaluate runs in parallel, with the same result; None = this process.
    OUT/arms, OUT/runs: data and run folders. OUT/comparison.json, report.html: the comparison so far, rewritten
    after every seed. OUT/run.json: present if and only if every run is finished.
    If `settings.stop_if` ends it after the pilot run: {kind, stopped (why), pilot}, and no arm is trained.
    More seeds, arms or evaluation sets may be requested later: finished work is reused.

    Raises InputError for what cannot be compared, and for a folder that holds something else (unless `fresh`);
    ExternalError if a disk, hub or server fails.
    """
    check_trackers(log)
    experiment = prepare_experiment(
        data,
        settings,
        local_path(out),
        scores=scores,
        cache=cache,
        device=device,
        progress=progress,
        time_limit=time_limit,
        fresh=fresh,
        engine=engine,
        **reading,
    )
    experiment.log = tuple(log)
    _warn_of_design(experiment)
    budget_forecast = pilot(experiment)
    if settings.stop_if == "hopeless" and budget_forecast is not None and budget_forecast["hopeless"]:
        return {"kind": "validation", "stopped": hopeless_in_words(), "pilot": budget_forecast}
    return _validate_here(experiment) if engine is None else _validate_on_workers(experiment)


def _validate_here(experiment: Experiment) -> dict[str, Any]:
    """Complete one run after the other in this process."""
    done: list[PlannedRun] = []
    seeds = experiment.settings.seeds
    for number, seed in enumerate(seeds, 1):
        last = number == len(seeds)
        planned = experiment.runs(seed)
        if not last and all(experiment.complete(run) for run in planned):
            done += planned  # an earlier comparison may also hold later seeds: it stays until a larger one replaces it
            continue
        for place, run in enumerate(planned, 1):
            experiment.progress.note(
                f"seed {seed} ({number} of {len(seeds)}), run {place} of {len(planned)}: {run.arm.name}, "
                f"{run.arm.rows:,} rows, {run.steps:,} steps ({run.budget})"
                + (f": the same run as {run.same_as}" if run.same_as else "")
            )
            complete_run(experiment, run)
        done += planned
        result = write_results(experiment, done, last=last)
    return result


def _validate_on_workers(experiment: Experiment) -> dict[str, Any]:
    """Complete the runs of all seeds in parallel; seeds are compared in order, as their runs finish."""
    check_workers(experiment)
    planned = {seed: experiment.runs(seed) for seed in experiment.settings.seeds}
    own = [run for runs in planned.values() for run in runs if run.same_as is None and not experiment.complete(run)]
    unfinished = {seed: {run.name for run in own if run.seed == seed} for seed in planned}
    seeds, done = list(planned), []  # seeds that are not compared yet

    def compare_finished() -> dict[str, Any] | None:
        result = None
        while seeds and not unfinished[seeds[0]]:
            seed = seeds.pop(0)
            for run in planned[seed]:
                finish_run(experiment, run)
            done.extend(planned[seed])
            result = write_results(experiment, done, last=not seeds)
        return result

    result = compare_finished()
    for run in runs_on_workers(experiment, own) if own else ():
        unfinished[run.seed].discard(run.name)
        experiment.progress.note(f"finished: {run.name}")
        result = compare_finished() or result
    assert result is not None
    return result


def prepare_experiment(
    data: Any,
    settings: Validation,
    out: Path,
    *,
    scores: Scores | None = None,
    cache: Any = None,
    device: str | None = None,
    progress: Progress | bool | None = None,
    time_limit: float | None = None,
    fresh: bool = False,
    dry: bool = False,
    engine: Engine | None = None,
    **reading: Any,
) -> Experiment:
    """Everything before the first arm: read data, claim the folder, hold out rows or compare them with evaluation sets.

    dry: leave the folder unchanged.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("validation runs in one process; start it without torchrun, or fine-tune the arms one by one")
    deadline = None if time_limit is None else time.monotonic() + time_limit
    progress = as_progress(progress)
    if isinstance(data, Loaded) and reading:
        raise InputError(f"the data is already read, so {next(iter(reading))}=... has no effect; pass it to read()")
    if not isinstance(data, Loaded):
        with progress.stage("read"):
            data = read(data, seed=settings.pipeline.seed, **reading)
    described = describe(settings, data, scores)
    check_folder(out, described, fresh=fresh)
    settings, data = _usable(
        data, settings, Run(settings.pipeline.proxy, cache, device, settings.pipeline.seed, progress, engine=engine)
    )
    # Prepared elsewhere, so that the folder does not change before every check has passed.
    with temporary_folder("curate-validation-") as place:
        prepared = prepare(data, settings, place, progress, engine)
        if _random_weights(settings):
            prepared = replace(prepared, warnings=(RANDOM_WEIGHTS, *prepared.warnings))
        described |= describe_sets(settings, prepared)
        check_folder(out, described, fresh=fresh)
        if not fresh:
            check_weights(out, settings, [evaluation_set.title for evaluation_set in prepared.sets])
        _check_recipes(settings, prepared, scores)
        if not dry:
            mark_started(out, described, fresh=fresh)
            prepared = prepared.moved(place, out)
    pipeline = settings.pipeline
    if any(_writes_rows(augmenter) for augmenter in pipeline.augmenters):
        pipeline = pipeline.model_copy(update={"gate": prepared.gate})  # new rows must not contain evaluation questions
    settings = settings.model_copy(update={"pipeline": pipeline})
    watched = Progress(progress.style)
    run = Run(pipeline.proxy, cache, device, pipeline.seed, watched, gate=pipeline.gate, engine=engine)
    arms = Arms(prepared.loaded, settings, out, run, scores)
    experiment = Experiment(settings, out, arms, prepared, progress, cache, device, deadline, engine=engine)
    if deadline is not None:
        # Each step of curation is cached, so it may be interrupted anywhere.
        watched.watch = arms.progress.watch = experiment.stop_in_time
    return experiment


def _usable(loaded: Loaded, settings: Validation, run: Run) -> tuple[Validation, Loaded]:
    """The rows that the model's own chat template can render, and settings with one `max_length` for all arms.

    Raises InputError as `curate.tokenization.usable.check_usable` does. Rows that the proxy cannot read are left out
    arm by arm, as in `curate run`.
    """
    tuning = with_length(settings.finetuning, loaded.examples, run.context)
    settings = settings.model_copy(update={"finetuning": tuning})
    if choose_template(tuning, loaded.examples.shape) != "chat" or tuning.scratch:
        return settings, loaded  # other templates refuse no rows
    assert isinstance(tuning.max_length, int)
    rows = tokenized(tuning, loaded.examples, run.context).rows
    rules = Rules(loaded.on_bad_row == "drop", tuning.max_length, "--max-length N")
    check_usable(rows, loaded.examples, loaded.rows, rules)
    if rows.refused:
        run.progress.note(f"  {len(rows.refused):,} rows that the model's chat template refuses are left out")
    return settings, without_refused(loaded, rows.refused)


def _check_recipes(settings: Validation, prepared: Prepared, scores: Scores | None) -> None:
    """Raise InputError for what would fail while an arm is made."""
    examples, pipeline, scored = prepared.loaded.examples, settings.pipeline, scores is not None
    arms = settings.named_arms()
    sources = examples.sources() if SOURCE_BALANCED in arms else None
    if SOURCE_BALANCED in arms and (sources is None or len(set(sources.tolist())) < 2):
        raise InputError(
            f"arm {SOURCE_BALANCED}: the rows name no two sources to balance; say which column does with --columns "
            "source=COLUMN, or leave the arm out"
        )
    if REDUCIBLE in arms:
        try:
            filtered = of_reducible_rows(pipeline)
            filtered.check(examples, scored=scored)
            if scores is not None:
                filtered.check_scores(scores)
        except InputError as error:
            raise InputError(f"arm {REDUCIBLE}: {error}") from error
    if copying(pipeline) or synthesizing(pipeline):
        pipeline.check(examples, scored=scored)
    for addition in settings.additions:
        if addition.recipe is not None:
            try:
                addition.recipe.model_copy(update={"proxy": pipeline.proxy}).check(
                    examples, scored=scored
                )  # one for all
            except InputError as error:
                raise InputError(f"arm {addition.name}: {error}") from error


RANDOM_WEIGHTS = (
    "the target has random weights: the moment at which it learns a skill moves by more from seed to seed than by what "
    "rows are copied, so that differences between arms say little; name a pretrained model with --model"
)


def _random_weights(settings: Validation) -> bool:
    """Whether the model to fine-tune is untrained, as far as its folder tells."""
    model = settings.finetuning.model
    return settings.finetuning.scratch or (expanded(model).is_dir() and has_initial_weights(expanded(model)))


def _warn_of_design(experiment: Experiment) -> None:
    for line in experiment.prepared.warnings:
        experiment.progress.note(f"warning: {line}")
    if len(experiment.settings.seeds) == 1:
        experiment.progress.note(
            "warning: with one seed the variance between seeds is unknown, so intervals cover the choice of questions "
            "only; use --seeds 3 or more"
        )


def _writes_rows(augmenter: Any) -> bool:
    return callable(getattr(augmenter, "realize", None))
