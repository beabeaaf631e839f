"""Write the results of a validation: comparison.json, report.html and run.json."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.comparison.compare import compare
from curate.curated import recipe_text
from curate.recipe import encode
from curate.storage.atomic import disk_errors, publish_file, publishing
from curate.storage.records import own_version, read_record, record_text, versions
from curate.validation.config import BASELINE
from curate.validation.experiment import Experiment, PlannedRun, reference_arm
from curate.validation.folder import weights
from curate.validation.pilot import FILE

_PACKAGES = ("curate-lm", "numpy", "torch", "transformers", "peft")


def link_run(run: Path, directory: Path, budget: str) -> None:
    """Copy a finished run for another budget at which it is identical; weights become symbolic links."""
    record = read_record(run / "run.json", f"remove {run} and rerun the same command")

    with publishing(directory) as folder:
        shutil.copytree(run / "evaluation", folder / "evaluation")
        shutil.copyfile(run / "metrics.jsonl", folder / "metrics.jsonl")
        for name in ("model", "adapter"):
            if (run / name).is_dir():
                os.symlink(Path("..") / run.name / name, folder / name)
        changed = {**record, "budget": budget, "same_as": run.name}
        (folder / "run.json").write_text(record_text(changed), encoding="utf-8")


def drop_weights(run: Path) -> None:
    """Remove the weights of an evaluated run and keep the rest of its folder."""
    with disk_errors(run):
        for path in weights(run):
            path.unlink()


def write_results(experiment: Experiment, done: Sequence[PlannedRun], *, last: bool) -> dict[str, Any]:
    """Compare the runs so far; write comparison.json and report.html and, once all runs are done, run.json."""
    runs = [experiment.out / "runs" / run.name for run in done]
    with experiment.progress.stage("compare", len(runs), "runs"):
        names = [evaluation_set.title for evaluation_set in experiment.prepared.sets]
        warnings = _warnings(experiment, done)
        comparison = compare(runs, BASELINE, sets=names, warnings=warnings)
        comparison.write(experiment.out / "report.html")
    record = {**_record(experiment, done), "warnings": warnings, "comparison": comparison.to_json()}
    if (place := experiment.out / FILE).is_file():
        record["pilot"] = read_record(place, f"remove {place} and rerun the same command", "pilot")
    if last:
        publish_file(experiment.out / "run.json", record_text(record))
    return record


def _warnings(experiment: Experiment, done: Sequence[PlannedRun]) -> list[str]:
    """Warnings from before the runs started, repeated with their result."""
    warned = [(run.arm.name, run.arm.extra["warning"]) for run in done if run.arm.extra and "warning" in run.arm.extra]
    arms = dict.fromkeys(f"arm {name}: {line}" for name, line in warned)
    return [*experiment.prepared.warnings, *experiment.arms.left_out.values(), *arms]


def _record(experiment: Experiment, done: Sequence[PlannedRun]) -> dict[str, Any]:
    settings, loaded = experiment.settings, experiment.prepared.loaded
    arms: dict[str, Any] = {}
    for run in done:
        arm = {key: value for key, value in asdict(run.arm).items() if key not in ("name", "data", "reading")}
        entry = arms.setdefault(run.arm.name, {**arm, "data": []})
        if run.arm.data not in entry["data"]:
            entry["data"].append(run.arm.data)
    return {
        "kind": "validation",
        "version": own_version(),
        "data": {
            "description": loaded.description,
            "fingerprint": loaded.examples.fingerprint(),
            "rows": len(loaded.examples),
        },
        "recipe_yaml": recipe_text(settings.pipeline),
        "finetuning": encode(settings.finetuning),
        "reweighters": {name: encode(reweighter, name) for name, reweighter in settings.reweighters.items()},
        "evaluation": encode(experiment.prepared.evaluation),
        "evaluated": experiment.prepared.facts,
        "seeds": list(settings.seeds),
        "epochs": settings.epochs,
        "budgets": list(settings.budgets),
        "equal_steps_of": reference_arm(settings),
        "arms": arms,
        "runs": [_run(experiment.out / "runs" / run.name, run) for run in done],
        "versions": versions(_PACKAGES),
    }


def _run(directory: Path, run: PlannedRun) -> dict[str, Any]:
    remedy = f"remove {directory} and rerun the same command"
    record = read_record(directory / "run.json", remedy)
    training = record["training"]
    described = {"name": run.name, "arm": run.arm.name, "budget": run.budget, "seed": run.seed, "same_as": run.same_as}
    described |= {
        name: training[name] for name in ("steps", "epochs", "tokens", "seconds", "gradients_per_step", "flops")
    }
    evaluations: dict[str, Any] = {}
    for path in sorted(directory.glob("evaluation/*/summary.json")):
        summary = read_record(path, remedy)
        evaluations[path.parent.name] = {name: summary.get(name) for name in ("accuracy", "nll", "seconds")}
    return {**described, "evaluation": evaluations}
