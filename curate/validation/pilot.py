"""Pilot run of a validation: forecast from the target's own held-out curves whether copies help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from curate import models, training
from curate.context import Context
from curate.difficulty.held_out_curves import FACTORS, HeldOutCurves
from curate.errors import DivergenceError, ExternalError, InputError
from curate.finetuning.data import training_data
from curate.finetuning.job import Job
from curate.mixture.forecast_words import curves_in_words
from curate.mixture.verdicts import Commands, forecast_budget
from curate.proxy.budget import MOST_ROWS, MOST_UNASKED, grid, held_out_quarter
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.storage.records import own_version, read_record, record_text
from curate.validation.arms import Arm
from curate.validation.config import BASELINE, SHARP, copying
from curate.validation.experiment import Experiment, PlannedRun, run_settings, steps_of

FILE = "pilot.json"
SEED = derive_seed(0, "validation", "pilot")  # not a seed that users would choose


def share_of_runs(experiment: Experiment) -> float:
    """Cost of a pilot relative to the runs at equal steps; runs with two gradients per step count twice."""
    arms = experiment.settings.named_arms()
    return 1 / (len(experiment.settings.seeds) * (len(arms) + sum(name in SHARP for name in arms)))


def is_due(experiment: Experiment) -> bool:
    """Whether a pilot run is to be trained."""
    settings = experiment.settings
    if (experiment.out / FILE).is_file() or settings.pilot == "never" or not copying(settings.pipeline):
        return False
    if settings.pilot == "always" or settings.stop_if is not None:
        return True
    has_runs = (experiment.out / "runs").exists()  # the runs it might have saved are already paid for
    return not has_runs and experiment.engine is None and share_of_runs(experiment) < MOST_UNASKED


def pilot(experiment: Experiment) -> dict[str, Any] | None:
    """Train a pilot run if it is due, report its forecast, and return it as JSON; None if there is none.

    The target is trained on three quarters of the original rows, with a seed that no arm uses, for the steps of all
    arms and with a nearly constant rate, and is measured on the other quarter along the way. The forecast is made as in
    `curate forecast`, which uses a proxy's curves.

    The forecast is kept in OUT/pilot.json, with the keys of `BudgetForecast.to_json`.
    """
    place = experiment.out / FILE
    if is_due(experiment):
        publish_file(place, record_text(_piloted(experiment)))
    if not place.is_file():
        return None
    record = read_record(place, f"remove {place} and rerun the same command", "pilot")
    for line in in_words(record):
        experiment.progress.note(line)
    return record


def in_words(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines that describe a pilot run."""
    verdict = record["verdict"]
    yield (
        f"pilot, {record['steps']:,} steps on {record['rows']:,} rows as they are, {record['held_out']:,} others held "
        f"out; will copies help? {verdict['verdict']}: {verdict['reason']}"
    )
    for line in curves_in_words(record):
        yield f"  {line}"
    if record["hopeless"]:
        yield f"  {hopeless_in_words()}"


def hopeless_in_words() -> str:
    """The sentence that explains `hopeless`."""
    return (
        f"hopeless: with hard rows shown {FACTORS[0]} to {FACTORS[-1]} times, no number is predicted to lower the loss "
        "on the mixture, even by the better bound of its interval"
    )


def _piloted(experiment: Experiment) -> dict[str, Any]:
    settings, arms = experiment.settings, experiment.arms
    steps = steps_of(settings.epochs, arms.get("hard", 0), settings.finetuning.batch_size)
    split, loaded = arms.hard.split, arms.hard.loaded
    examples = loaded.examples
    n = len(examples)
    run = PlannedRun(Arm(BASELINE, "", {}, n, n, None, None), "steps", SEED, steps)
    tuning = run_settings(settings, run, experiment.prepared.loaded.examples, experiment.out)
    tuning = tuning.model_copy(update={"horizon": 3 * steps})
    context = Context(cache=experiment.cache, device=experiment.device, seed=SEED, progress=experiment.progress)
    job = Job(training_data(loaded, {}), tuning, experiment.out / "pilot", context, BASELINE, None, None)
    held_out, valid = held_out_quarter(examples, split, settings.pipeline.gate), split.valid & job.tokens.valid
    inside, outside = np.flatnonzero(~held_out & job.tokens.valid), np.flatnonzero(held_out & valid)
    if not len(inside) or not len(outside):
        raise InputError(f"{n:,} rows are too few for a pilot run; give more, or pass --pilot never")
    if len(outside) > MOST_ROWS:
        outside = np.sort(np.random.default_rng(0).choice(outside, MOST_ROWS, replace=False))  # (at most MOST_ROWS,)
    trained, measured = job.tokens.take(inside), job.tokens.take(outside)
    model, _ = job.load()
    points = grid(steps)
    engine, losses, expected = None, [], len(points) * int(measured.lengths.sum())
    with experiment.progress.stage("pilot", steps, "steps") as stage:
        try:
            for _ in training.train(
                model,
                trained,
                tuning.train_config(len(inside)),
                checkpoint_steps=points.tolist(),
                device=job.device,
                log=lambda record: stage.advance(1),
            ):
                if engine is None:  # training has moved the model to this device
                    engine = models.LossEngine(
                        model, precision=tuning.precision, expected_tokens=expected, device=job.device
                    )
                engine.refresh()
                losses.append(engine.losses(measured))
                _check_time(experiment)
        except DivergenceError as error:
            raise InputError(f"the pilot run: {error}") from error
    hard_share = float(split.hard.sum()) / max(1, int(split.valid.sum()))
    curves = HeldOutCurves(points, np.stack(losses, axis=1), split.hard[outside], hard_share, of="target")
    commands = Commands(measure="rerun the same command without --stop-if")
    budget_forecast = forecast_budget(
        curves, commands=commands, wrong_share=split.wrong_share, seed=settings.pipeline.seed
    )
    facts = {"kind": "pilot", "version": own_version(), "seed": SEED, "steps": steps}
    return {**facts, "rows": len(inside), "held_out": len(outside), **budget_forecast.to_json()}


def _check_time(experiment: Experiment) -> None:
    try:
        experiment.left()
    except ExternalError as error:
        raise ExternalError(
            "the time limit is reached in the pilot run, which starts over; give it more time, or pass --pilot never"
        ) from error
