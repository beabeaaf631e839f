"""Fine-tuning runs: train on a dataset, keep checkpoints and metrics, save weights and a record in one folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from curate import training
from curate.component import fingerprint
from curate.console.progress import Progress, as_progress
from curate.context import Context
from curate.devices.distributed import any_rank, barrier, rank
from curate.devices.precision import resolve_precision
from curate.errors import DivergenceError, ExternalError
from curate.finetuning.config import Finetuning
from curate.finetuning.data import TrainingData, training_data
from curate.finetuning.flops import flop_counts, peak_rate
from curate.finetuning.job import Job, with_length
from curate.finetuning.metrics import Metrics, Monitor
from curate.finetuning.record import run_record
from curate.finetuning.run_folder import read_run
from curate.finetuning.saving import save_model, write_rejected
from curate.finetuning.signals import StopSignals
from curate.finetuning.weights import write_weights
from curate.optimizers import Muon
from curate.recipe import encode
from curate.reweighters import GivenWeights
from curate.storage.places import check_place, local_path
from curate.training.config import TrainConfig, learning_rate_factor
from curate.training.trackers import Callback, check_trackers

_SAVE_SECONDS = 300.0
_SAVE_RATIO = 20  # writing checkpoints may take 1 / _SAVE_RATIO of the time


def finetune(
    data: Any,
    settings: Finetuning,
    out: Path | str,
    *,
    arm: str | None = None,
    budget: str | None = None,
    curation: dict[str, Any] | None = None,
    cache: Any = None,
    device: str | None = None,
    progress: Progress | bool | None = None,
    fresh: bool = False,
    log: Sequence[str | Callback] = (),
    time_limit: float | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Fine-tune a model on `data` and write a run folder; returns its run.json.

    data, reading: arguments of `curate.read`; data may also be a folder written by `curate run`, or Examples. Read with
    a seed of 0, so that `limit` draws the same rows for every seed of the settings.
    arm: name of the treatment of the data (None = name of the data); budget: "steps" or "epochs", what the arms of a
    comparison have in common; curation: cost of making the data (None = read from the data if recorded there).
    cache: folder, or Cache; holds the lock that keeps two processes from writing one run.
    log: further places for metrics: "tensorboard", "wandb", "mlflow", or functions that are called with the step and
        its metrics (loss, learning_rate, gradient_norm, tokens and others).
    time_limit: seconds from now after which a checkpoint is saved and ExternalError raised; the same call resumes.

    The same call resumes from the newest checkpoint of an unfinished run, bit for bit on the same hardware and number
    of processes, and does nothing if the run is finished. Under torchrun every rank makes this call.
    SIGTERM and Ctrl-C take effect once the current step is saved, a second one immediately.
    Raises InputError for what cannot be trained, for a folder that holds something else (unless `fresh`), and if
    loss or weights are no longer finite: diverged.json in the folder then names the rows. ExternalError: disk or hub.
    """
    deadline = None if time_limit is None else time.monotonic() + time_limit
    check_trackers(log)
    out = local_path(out)
    check_place(out)
    context = Context(cache=cache, device=device, seed=settings.seed, progress=as_progress(progress))
    context.torch_device()  # joins the process group, and reports a missing device before any work
    with context.progress.stage("read"):
        rows = training_data(data, reading)
    settings = with_length(settings, rows.examples, context)
    job = Job(rows, settings, out, context, arm or rows.name, budget, curation or rows.curation)
    for note in rows.notes:
        context.progress.note(f"  {note}")
    for note in _unused_curation(rows, settings.reweighter):
        context.progress.note(f"  warning: {note}")
    with _locked(job):
        if job.folder.finished(fresh=fresh):
            context.progress.note(f"{out} already holds this run; nothing to do (--fresh retrains it)")
            if rank() == 0:
                job.folder.remove_checkpoints()
            return read_run(out)
        return _train_run(job, fresh=fresh, log=log, deadline=deadline)


@contextmanager
def _locked(job: Job) -> Iterator[None]:
    """Keep other processes from training into this folder. Every rank enters; rank 0 holds the lock for all."""

    def waiting() -> None:
        job.context.progress.note(f"another process trains into {job.out}; waiting for it")

    key = fingerprint(str(job.out.absolute()))
    with job.context.store.lock("finetune", key, waiting=waiting) if rank() == 0 else nullcontext():
        barrier()
        yield
        barrier()


def _train_run(job: Job, *, fresh: bool, log: Sequence[str | Callback], deadline: float | None) -> dict[str, Any]:
    """Train the remaining steps and finish the folder; returns the record of the run. Runs on every rank.

    deadline: on the monotonic clock; after it a checkpoint is saved and ExternalError raised.
    """
    valid = np.flatnonzero(job.tokens.valid)  # (valid rows,)
    config = job.settings.train_config(len(valid))
    model, trained_model = job.load()
    barrier()  # every rank has looked at the folder before rank 0 changes it
    starts = job.folder.mark_started(fresh=fresh) if rank() == 0 else 0
    barrier()
    resume = job.folder.newest_checkpoint()
    done = 0 if resume is None else int(resume.name.removeprefix("step-"))
    if done:
        job.context.progress.note(f"resuming from step {done:,} of {config.steps:,}")
    for note in _notes(config):
        job.context.progress.note(note)
    peak = peak_rate(model, job.device, resolve_precision(config.precision, job.device))
    operations = flop_counts(model).total(job.tokens, valid) / len(valid) * config.batch_size
    monitor = Monitor(config.steps, config.batch_size, len(valid), job.settings.log_every, operations, peak)
    with StopSignals() as signals:
        schedule = _CheckpointSchedule(config.steps, done, job.settings.save_every, deadline, signals)
        last = _train(job, model, config, monitor, schedule, resume, log)
        record = run_record(job, config, model, last, starts, peak, monitor.gradients)
        if rank() == 0:
            with job.context.progress.stage("save"):
                save_model(job, model, trained_model)
                if last.reweighting is not None:
                    write_weights(last.reweighting, job.data.examples.ids, job.out)
                write_rejected(job)
                job.folder.finalize(record)
        barrier()
    return read_run(job.out)


def _unused_curation(rows: TrainingData, reweighter: Any) -> Iterator[str]:
    """What curation prepared (weights, an order) that this training does not use, and the option that would use it."""
    weights_given = isinstance(reweighter, GivenWeights)
    front = "--reweighter '{use: GivenWeights, until: 0.5}'"
    if rows.epochs > 1:
        yield (
            f"its rows are those of {rows.epochs} epochs, redrawn for each, and here all are shuffled together; "
            '--steps "1 epoch" shows each as often as was meant'
        )
    if rows.weighted and not weights_given:
        uses = front if rows.front else "--reweighter GivenWeights"
        yield f"its column `weight` counts for nothing here; {uses} uses it"
    elif rows.weighted and rows.front and reweighter.until is None:
        yield f"its weights are for the first part of training (order: front) and hold in all of it here; {front}"
    elif rows.front and not rows.weighted:
        yield (
            "its copies come first (order: front), and here all rows are shuffled; curate with --set copies=weights, "
            f"and pass {front}"
        )


def _notes(config: TrainConfig) -> list[str]:
    """Hints on learning rates that the user may not expect."""
    notes = []
    base = getattr(config.optimizer, "base", None)
    muon, path = (base, "optimizer.base") if isinstance(base, Muon) else (config.optimizer, "optimizer")
    if isinstance(muon, Muon):
        rest = muon.adamw
        rate = config.learning_rate if rest.learning_rate is None else rest.learning_rate
        decay = config.weight_decay if rest.weight_decay is None else rest.weight_decay
        notes.append(
            f"Muon moves hidden matrices at a peak rate of {muon.peak(config.learning_rate):g} with weight decay "
            f"{muon.weight_decay:g} (--set {path}.learning_rate=..., {path}.weight_decay=...); AdamW moves the rest at "
            f"{rate:g} with {decay:g} (--learning-rate, --set weight_decay=...)"
        )
    if not any(learning_rate_factor(config, step) for step in range(config.steps)):
        notes.append(
            f"the learning rate is 0 in all {config.steps} steps, because it is still warming up: nothing will be "
            "learned; set warmup_ratio=0 or more steps"
        )
    return notes


def _train(
    job: Job,
    model: Any,
    config: TrainConfig,
    monitor: Monitor,
    schedule: _CheckpointSchedule,
    resume: Path | None,
    log: Sequence[str | Callback],
) -> training.Checkpoint:
    """Train to the last step and return its checkpoint; earlier ones stay in the folder. Runs on every rank."""
    progress = job.context.progress

    def metrics_file() -> Metrics:
        described = {"arm": job.arm, **encode(job.settings)}
        return Metrics(job.folder.metrics, schedule.start, log, job.out.name, described)

    started = nullcontext() if rank() else closing(metrics_file())
    with started as metrics, progress.stage("fine-tune", config.steps, "steps") as stage:
        stage.advance(schedule.start)

        def log_step(record: training.StepRecord) -> None:
            for note in record.notes:
                progress.note(note)
            stage.advance(1, monitor.step(record, metrics))

        checkpoints = training.train(
            model,
            job.tokens,
            config,
            checkpoint_steps=schedule,
            reweighter=job.settings.reweighter,
            rows=job.rows,
            resume=resume,
            device=job.device,
            log=log_step,
        )
        try:
            for checkpoint in checkpoints:
                stage.cost.tokens = checkpoint.tokens_seen
                if checkpoint.step == config.steps:
                    last = checkpoint
                    continue
                schedule.saved(_save(job, checkpoint, metrics))
                if schedule.stopped:
                    schedule.signals.raise_signal()
                if schedule.time_is_up:
                    raise ExternalError(
                        f"the time limit is reached after {checkpoint.step:,} of {config.steps:,} steps; rerun the "
                        "same command to resume"
                    )
        except DivergenceError as error:
            raise job.diverged(error) from error
    return last


def _save(job: Job, checkpoint: training.Checkpoint, metrics: Metrics | None) -> float:
    """Save a checkpoint on rank 0 while the others wait; returns the seconds it took. A collective of all ranks."""
    began = time.monotonic()
    if metrics is not None:
        metrics.sync()
        job.folder.save(checkpoint)
    barrier()
    return time.monotonic() - began


class _CheckpointSchedule:
    """Decides after which steps a checkpoint is saved: the last, and those kept for resuming. All ranks agree.

    The clock is that of rank 0. time_is_up, stopped: the checkpoint that is due is the last before the time limit, or
    before a signal is raised.
    """

    def __init__(self, steps: int, start: int, every: int | None, deadline: float | None, signals: StopSignals) -> None:
        self.steps, self.start, self.every, self.deadline, self.signals = steps, start, every, deadline, signals
        self.time_is_up = self.stopped = False
        self._pause, self._last = _SAVE_SECONDS, time.monotonic()

    def __call__(self, step: int) -> bool:
        """Whether to save after `step`. A collective: every rank must call it after every step."""
        if step in (self.start, self.steps):  # a time limit too short for one step must still make one
            return step == self.steps
        self.stopped = self.signals.received()
        if self.stopped:
            return True
        now = time.monotonic()
        if self.deadline is not None:
            self.time_is_up = any_rank(rank() == 0 and now >= self.deadline)
        if self.every is not None:
            return self.time_is_up or step % self.every == 0
        return self.time_is_up or any_rank(rank() == 0 and now - self._last >= self._pause)

    def saved(self, seconds: float) -> None:
        """Record how long writing a checkpoint took."""
        self._pause, self._last = max(_SAVE_SECONDS, _SAVE_RATIO * seconds), time.monotonic()
