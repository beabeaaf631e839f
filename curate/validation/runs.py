"""Fine-tune and evaluate one run of a validation, in this process or on a worker of an engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.console.progress import Progress, Stage, StageCost
from curate.engine.packages import package_names
from curate.engine.protocol import Job, WorkerContext
from curate.errors import DataWarning, InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.evaluate import evaluate
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.validation.experiment import Experiment, PlannedRun, run_settings
from curate.validation.folder import weights
from curate.validation.record import drop_weights, link_run

_FINETUNE = "fine-tune"  # the stage whose steps are counted


@dataclass(frozen=True)
class RunJob:
    """What a worker needs for one run. evaluated: whether it was evaluated before its weights were deleted."""

    data: Any
    reading: dict[str, Any]
    settings: Finetuning
    directory: Path
    arm: str
    budget: str
    curation: Any
    sets: Any
    evaluation: Evaluation
    on_bad_row: Any
    evaluated: bool
    log: Any
    time_limit: float | None

    @classmethod
    def of(cls, experiment: Experiment, run: PlannedRun) -> RunJob:
        """The job of a planned run. Raises ExternalError if the deadline has passed."""
        directory, prepared = experiment.out / "runs" / run.name, experiment.prepared
        return cls(
            run.arm.data,
            dict(run.arm.reading),
            run_settings(experiment.settings, run, prepared.loaded.examples, experiment.out),
            directory,
            run.arm.name,
            run.budget,
            run.arm.curation,
            prepared.sets,
            prepared.evaluation,
            prepared.loaded.on_bad_row,
            _evaluated(experiment, run),
            experiment.log,
            experiment.left(),
        )


def _evaluated(experiment: Experiment, run: PlannedRun) -> bool:
    """Whether nothing of a run is left to evaluate."""
    directory = experiment.out / "runs" / run.name
    return experiment.complete(run) and not (experiment.settings.keep_weights and weights(directory))


def train_and_evaluate(job: RunJob, cache: Any, device: str | None, training: Progress, evaluating: Progress) -> None:
    """Fine-tune and evaluate, or resume. training, evaluating: progress of the two."""
    finetune(
        job.data,
        job.settings,
        job.directory,
        arm=job.arm,
        budget=job.budget,
        curation=job.curation,
        cache=cache,
        device=device,
        progress=training,
        log=job.log,
        time_limit=job.time_limit,
        **job.reading,
    )
    if job.evaluated:
        return
    with warnings.catch_warnings():
        # Reported once for all arms, before the first one.
        warnings.filterwarnings("ignore", message=".*training rows share text", category=DataWarning)
        evaluate(
            str(job.directory),
            job.sets,
            job.evaluation,
            cache=cache,
            device=device,
            progress=evaluating,
            on_bad_row=job.on_bad_row,
        )


def complete_run(experiment: Experiment, run: PlannedRun) -> None:
    """Fine-tune and evaluate one run in this process, or resume it; a run equal to another one is linked to it."""
    if run.same_as is None:
        style, watch = experiment.progress.style, experiment.arms.progress.watch
        job = RunJob.of(experiment, run)
        train_and_evaluate(job, experiment.cache, experiment.device, Progress(style), Progress(style, watch=watch))
    finish_run(experiment, run)


def finish_run(experiment: Experiment, run: PlannedRun) -> None:
    """Finish an evaluated run: link it to an equal one, or remove its weights if they are not kept."""
    directory = experiment.out / "runs" / run.name
    if run.same_as is not None:
        if not _evaluated(experiment, run):
            link_run(experiment.out / "runs" / run.same_as, directory, run.budget)
    elif not experiment.settings.keep_weights and weights(directory):
        drop_weights(directory)


# -- on workers -------------------------------------------------------------------------------------------------------


class _Relayed(Progress):
    """Progress on a worker: sends steps of the fine-tuning to the driver."""

    def __init__(self, worker: WorkerContext) -> None:
        super().__init__("none")
        self.worker = worker

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Stage]:
        """See `Progress.stage`."""

        def advance(count: int, /, detail: str = "") -> None:
            if name == _FINETUNE:
                self.worker.emit("advance", count)

        yield Stage(StageCost(name), advance)


def _on_worker(job: RunJob, worker: WorkerContext) -> Iterator[str]:
    """Runs on a worker: one run; yields its arm when it is done."""
    progress = _Relayed(worker)
    train_and_evaluate(job, worker.cache, worker.device, progress, progress)
    yield job.arm


def check_workers(experiment: Experiment) -> None:
    """Raise InputError if the workers' numerics differ from the driver's, or they do not see the folder."""
    engine = experiment.engine
    assert engine is not None
    engine.numerics(experiment.settings.finetuning.precision)
    if not engine.shares(str(experiment.out)):
        raise InputError(
            f"the workers do not see {experiment.out}, where weights and checkpoints are kept; name a folder of shared "
            "storage with --out"
        )


def runs_on_workers(experiment: Experiment, runs: list[PlannedRun]) -> Iterator[PlannedRun]:
    """Complete the runs that are not links, side by side on the engine's workers; yields each once it is finished.

    If a worker is lost, its run resumes on another one from the checkpoint in the folder, which all workers must see.
    """
    engine, tuning = experiment.engine, experiment.settings.finetuning
    assert engine is not None
    engine.shares(str(experiment.arms.run.store))  # the cache that the workers use
    position, reported = [0] * len(runs), [0] * len(runs)

    def job(number: int) -> Job:
        def payload() -> RunJob:
            position[number] = 0
            return RunJob.of(experiment, runs[number])

        return Job(f"the run {runs[number].name}", _on_worker, payload)

    settings, prepared = experiment.settings, experiment.prepared
    needs = package_names(tuning, settings.reweighters, prepared.sets, prepared.evaluation)
    with experiment.progress.stage(_FINETUNE, sum(run.steps for run in runs), "steps") as stage:
        for number, kind, value in engine.jobs([job(k) for k in range(len(runs))], needs=needs):
            experiment.left()
            if kind == "advance":  # a replacement of a lost worker repeats some steps
                position[number] += value
                stage.advance(max(0, position[number] - reported[number]), runs[number].name)
                reported[number] = max(reported[number], position[number])
            elif kind == "value":
                finish_run(experiment, runs[number])
                yield runs[number]
