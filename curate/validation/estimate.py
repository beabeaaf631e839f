"""Estimates for a validation before it runs: arms, runs, steps, tokens, time and detectable effects."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from curate.comparison.statistics import detectable_effect
from curate.estimate import mean_tokens
from curate.evaluation.results import read_evaluations
from curate.finetuning.metrics import read_metrics
from curate.optimizers.sam import takes_two_gradients
from curate.storage.records import read_record
from curate.validation.arms import Arm
from curate.validation.config import BASELINE, CONTROLS, FRONT, SHARP, SOURCE_BALANCED
from curate.validation.experiment import Experiment, PlannedRun, reference_arm, schedule, steps_of
from curate.validation.pilot import is_due

_HARD_SHARE = 0.25  # assumed until the rows are curated; the default recipe finds 10 to 40 %


def estimate_runs(experiment: Experiment) -> dict[str, Any]:
    """Arms, runs and totals as JSON; trains, scores and writes nothing.

    rows of an arm are assumed (`known`: false) until its data is made. seconds: from existing runs, else null.
    """
    settings = experiment.settings
    known_rows = {name: _known_rows(experiment, name) for name in settings.named_arms()}
    assumed_rows = _assumed(experiment, known_rows)
    arms = {name: Arm(name, "", {}, rows, rows, None, None) for name, rows in assumed_rows.items()}
    hard = _hard_rows(experiment)
    reference = arms.get(reference_arm(settings)) or Arm("hard", "", {}, hard, hard, None, None)
    runs = [run for seed in settings.seeds for run in schedule(settings, seed, arms, reference)]
    tokens_per_row, _ = mean_tokens(experiment.prepared.loaded.examples, settings.finetuning, 0)
    rates = _rates(experiment, runs)
    listed = [_run(experiment, run, tokens_per_row, rates) for run in runs]
    remaining = [run for run in listed if not run["done"] and run["same_as"] is None]
    return {
        "arms": [{"arm": name, "rows": arms[name].rows, "known": known_rows[name] is not None} for name in arms],
        "runs": listed,
        "runs_left": len(remaining),
        "tokens_left": sum(run["tokens"] for run in remaining),
        "seconds_left": None if rates is None else round(sum(run["seconds"] for run in remaining), 1),
        "evaluation_sets": [evaluation_set.title for evaluation_set in experiment.prepared.sets],
        "detectable": _detectable(experiment, runs),
        "pilot": {"steps": steps_of(settings.epochs, reference, settings.finetuning.batch_size)}
        if is_due(experiment)
        else None,
        "warnings": list(experiment.prepared.warnings),
    }


def _known_rows(experiment: Experiment, name: str) -> int | None:
    """Number of rows of an arm whose data exists."""
    name = experiment.settings.data_arm(name)
    if name in (BASELINE, FRONT):  # copies in `front` are weights
        return len(experiment.prepared.loaded.examples)
    if name in experiment.arms.given:
        return experiment.arms.given[name].rows
    if name in (*CONTROLS, SOURCE_BALANCED):
        name = "hard"  # these have exactly as many rows
    path = experiment.out / "arms" / name / "run.json"
    if not path.is_file():
        return None
    return int(read_record(path, f"remove {path.parent} and rerun the same command")["counts"]["output"])


def _hard_rows(experiment: Experiment) -> int:
    """Number of rows of the hard arm, assumed if it is not made yet."""
    return _known_rows(experiment, "hard") or round((1 + _HARD_SHARE) * len(experiment.prepared.loaded.examples))


def _assumed(experiment: Experiment, known_rows: dict[str, int | None]) -> dict[str, int]:
    return {name: rows or _hard_rows(experiment) for name, rows in known_rows.items()}


def _rates(experiment: Experiment, runs: Sequence[PlannedRun]) -> tuple[float, float] | None:
    """Seconds per plain step, and per evaluation of one run, as measured in started runs; None if there are none."""
    steps, evaluations = [], []
    for run in runs:
        directory = experiment.out / "runs" / run.name
        plain = experiment.settings.data_arm(run.arm.name) == run.arm.name
        if run.same_as is not None or not plain or not (directory / "metrics.jsonl").is_file():
            continue
        lines = read_metrics(directory / "metrics.jsonl")
        if lines:
            steps.append(lines[-1]["seconds"] / lines[-1]["step"])
        summaries = [read_record(path, f"remove {path.parent}") for path in directory.glob("evaluation/*/summary.json")]
        if summaries:
            evaluations.append(max(float(summary["seconds"]) for summary in summaries))
    return (median(steps), median(evaluations) if evaluations else 0.0) if steps else None


def _run(
    experiment: Experiment, run: PlannedRun, tokens_per_row: float, rates: tuple[float, float] | None
) -> dict[str, Any]:
    costs_nothing = run.same_as is not None
    slower = 2 if run.arm.name in SHARP else 1  # relative to a plain step, which the rates are for
    passes = 2 if takes_two_gradients(experiment.settings.finetuning.optimizer) else slower
    steps = 0 if costs_nothing else run.steps
    seconds = None if rates is None else (0.0 if costs_nothing else slower * steps * rates[0] + rates[1])
    return {
        "run": run.name,
        "arm": run.arm.name,
        "budget": run.budget,
        "seed": run.seed,
        "steps": run.steps,
        "epochs": round(run.steps * experiment.settings.finetuning.batch_size / max(run.arm.rows, 1), 2),
        "gradients_per_step": passes,
        "tokens": round(steps * passes * experiment.settings.finetuning.batch_size * tokens_per_row),
        "seconds": seconds,
        "same_as": run.same_as,
        "done": experiment.complete(run),
    }


def _detectable(experiment: Experiment, runs: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """The smallest detectable effect of this design per set and metric, from finished runs of the baseline."""
    places = [experiment.out / "runs" / run.name for run in runs if (run.arm.name, run.budget) == (BASELINE, "steps")]
    places = [place for place in places if (place / "run.json").is_file() and (place / "evaluation").is_dir()]
    if len(places) < 2:
        return []
    evaluations = [read_evaluations(place) for place in places]
    effects = []
    for name in sorted(set.intersection(*(set(evaluation) for evaluation in evaluations))):
        for metric in ("accuracy", "nll"):
            columns = [evaluation[name].rows[metric].to_pylist() for evaluation in evaluations]
            table = np.array([[np.nan if cell is None else cell for cell in column] for column in columns])  # (runs, n)
            measured = np.isfinite(table).all(axis=0)  # (n,)
            if measured.sum() < 2:
                continue
            weights = None
            if metric == "nll":
                tokens = evaluations[0][name].rows["nll_tokens"].to_pylist()
                weights = np.array([tokens[k] for k in np.flatnonzero(measured)], float)
            effect = detectable_effect(
                table[:, measured],
                weights=weights,
                discrete=metric == "accuracy",
                seeds=max(len(experiment.settings.seeds), 2),
            )
            effects.append(
                {"set": name, "metric": metric, "absolute": effect.absolute, "relative": effect.relative}
                | {"power": effect.power, "from_seeds": len(places), "seeds": effect.seeds, "examples": effect.examples}
            )
    return effects
