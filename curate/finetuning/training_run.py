"""The middle of a fine-tuning run: train, keep checkpoints, write metrics, save what came out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate import training
from curate.console.formatting import duration
from curate.console.progress import Stage
from curate.devices.distributed import any_rank, barrier, rank
from curate.devices.precision import resolve_precision
from curate.errors import DivergenceError, ExternalError
from curate.finetuning.flops import arithmetic, peak_rate
from curate.finetuning.job import Job
from curate.finetuning.metrics import Metrics
from curate.finetuning.record import run_record
from curate.finetuning.rejected import write_rejected
from curate.finetuning.run_folder import read_run
from curate.finetuning.saving import save_model
from curate.finetuning.signals import Stopping
from curate.finetuning.weights import write_weights
from curate.optimizers import Muon
from curate.recipe import encode
from curate.training.config import StepRecord, TrainConfig, learning_rate_factor

__all__ = ["carry_out"]

_SAVE_SECONDS = 300.0
_SAVE_RATIO = 20  # writing checkpoints may take this part of the time
_RECENT_STEPS = 20  # over which the rate on the terminal is taken


def carry_out(job: Job, *, fresh: bool, log: Sequence[str], deadline: float | None) -> dict[str, Any]:
    """Train what is still to be trained and finish the folder; returns the record of the run.

    deadline: on the monotonic clock; after it a checkpoint is saved and ExternalError raised.
    """
    valid = np.flatnonzero(job.tokens.valid)
    config = job.settings.train_config(len(valid))
    model, whole = job.load()
    barrier()  # every rank has looked at the folder before one of them changes it
    begun = job.folder.claim(fresh=fresh) if rank() == 0 else 0
    barrier()
    resume = job.folder.checkpoint()
    done = 0 if resume is None else int(resume.name.removeprefix("step-"))
    if done:
        job.context.progress.note(f"going on from step {done:,} of {config.steps:,}")
    for note in _notes(config):
        job.context.progress.note(note)
    peak = peak_rate(model, job.device, resolve_precision(config.precision, job.device))
    operations = arithmetic(model).of(job.tokens, valid) / len(valid) * config.batch_size
    watch = _Watch(job, config, operations, peak)
    with Stopping() as stopping:
        due = _Due(config.steps, done, job.settings.save_every, deadline, stopping)
        last = _train(job, model, config, watch, due, resume, log)
        record = run_record(job, config, model, last, begun, peak, watch.gradients)
        if rank() == 0:
            with job.context.progress.stage("save"):
                save_model(job, model, whole)
                if last.reweighting is not None:
                    write_weights(last.reweighting, job.data.examples.ids, job.out)
                write_rejected(job)
                job.folder.finish(record)
        barrier()
    return read_run(job.out)


def _notes(config: TrainConfig) -> list[str]:
    """What the user may not expect of the learning rate."""
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
    watch: _Watch,
    due: _Due,
    resume: Any,
    log: Sequence[str],
) -> training.Checkpoint:
    """The checkpoint after the last step; earlier ones are kept in the folder."""
    started = nullcontext() if rank() else closing(_metrics(job, due.start, log))
    with started as metrics, job.context.progress.stage("fine-tune", config.steps, "steps") as stage:
        stage.advance(due.start)
        watch.stage, watch.metrics = stage, metrics
        steps = training.train(
            model,
            job.tokens,
            config,
            checkpoint_steps=due,
            reweighter=job.settings.reweighter,
            rows=job.rows,
            resume=resume,
            device=job.device,
            log=watch.step,
        )
        try:
            for checkpoint in steps:
                stage.cost.tokens = checkpoint.tokens_seen
                if checkpoint.step == config.steps:
                    last = checkpoint
                    continue
                due.saved(_keep(job, checkpoint, metrics))
                if due.stopped:
                    due.stopping.obey()
                if due.time_is_up:
                    raise ExternalError(
                        f"the time limit is reached after {checkpoint.step:,} of {config.steps:,} steps; the same "
                        "command goes on from there"
                    )
        except DivergenceError as error:
            raise job.diverged(error) from error
    return last


def _metrics(job: Job, done: int, log: Sequence[str]) -> Metrics:
    return Metrics(job.folder.metrics, done, log, job.out.name, {"arm": job.arm, **encode(job.settings)})


def _keep(job: Job, checkpoint: training.Checkpoint, metrics: Metrics | None) -> float:
    """Save a checkpoint on rank 0; returns the seconds that took."""
    began = time.monotonic()
    if metrics is not None:
        metrics.sync()
        job.folder.save(checkpoint)
    barrier()
    return time.monotonic() - began


class _Due:
    """Which steps are looked at: the last, and those after which a resumable checkpoint is kept.

    The clock is that of rank 0, whose word counts. time_is_up, stopped: the checkpoint that is due is the last before
    the limit, or before a signal is obeyed.
    """

    def __init__(self, steps: int, start: int, every: int | None, deadline: float | None, stopping: Stopping) -> None:
        self.steps, self.start, self.every, self.deadline, self.stopping = steps, start, every, deadline, stopping
        self.time_is_up = self.stopped = False
        self._pause, self._last = _SAVE_SECONDS, time.monotonic()

    def __call__(self, step: int) -> bool:
        if step in (self.start, self.steps):  # a slice of time too short for one step must still make one
            return step == self.steps
        self.stopped = self.stopping.wanted()
        if self.stopped:
            return True
        now = time.monotonic()
        if self.deadline is not None:
            self.time_is_up = any_rank(rank() == 0 and now >= self.deadline)
        if self.every is not None:
            return self.time_is_up or step % self.every == 0
        return self.time_is_up or any_rank(rank() == 0 and now - self._last >= self._pause)

    def saved(self, seconds: float) -> None:
        """A checkpoint took this long to write."""
        self._pause, self._last = max(_SAVE_SECONDS, _SAVE_RATIO * seconds), time.monotonic()


@dataclass
class _Watch:
    """Turns the records of steps into lines of metrics and one line on the terminal.

    operations: floating-point operations of one gradient of a batch of mean rows. peak: see `peak_rate`.
    """

    job: Job
    config: TrainConfig
    operations: float
    peak: float | None
    stage: Stage | None = None
    metrics: Metrics | None = None
    gradients: int = 1
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_RECENT_STEPS + 1))

    def step(self, record: StepRecord) -> None:
        self.gradients = record.gradients
        for note in record.notes:
            self.job.context.progress.note(note)
        settings = self.job.settings
        if self.metrics is not None and (record.step % settings.log_every == 0 or record.step == self.config.steps):
            self.metrics.write(
                {
                    "step": record.step,
                    "epoch": round(record.step * settings.batch_size / int(self.job.tokens.valid.sum()), 4),
                    "loss": record.loss,
                    "learning_rate": record.learning_rate,
                    "gradient_norm": record.gradient_norm,
                    "tokens": record.tokens,
                    "seconds": record.seconds,
                }
            )
        self._recent.append((record.tokens, record.seconds))
        if self.stage is not None:
            self.stage.advance(1, self._line(record))

    def _line(self, record: StepRecord) -> str:
        """loss 1.234, 5,678 tokens/s, 43 % of peak, 3 min 20 s left"""
        line = f"loss {record.loss:.3f}"
        (tokens, seconds), passed = self._recent[0], len(self._recent) - 1
        if passed and record.seconds > seconds:
            each = (record.seconds - seconds) / passed
            line += f", {(record.tokens - tokens) / passed / each:,.0f} tokens/s"
            if self.peak:
                line += f", {self.gradients * self.operations / each / self.peak:.0%} of peak"
            line += f", {duration((self.config.steps - record.step) * each)} left"
        return line
