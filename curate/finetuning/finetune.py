"""One fine-tuning run, from data and settings to a folder with weights, metrics and a record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from curate.component import fingerprint
from curate.console.progress import Progress
from curate.context import Context
from curate.devices.distributed import barrier, rank
from curate.finetuning.config import Finetuning
from curate.finetuning.data import training_data
from curate.finetuning.job import Job
from curate.finetuning.lengths import with_length
from curate.finetuning.metrics import check_loggers
from curate.finetuning.run_folder import read_run
from curate.finetuning.training_run import carry_out
from curate.reweighters import GivenWeights
from curate.storage.places import check_place, local_path

__all__ = ["finetune"]


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
    progress: Progress | None = None,
    fresh: bool = False,
    log: Sequence[str] = (),
    time_limit: float | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Fine-tune a model on `data` and leave a run folder; returns its run.json.

    data, reading: as `curate.read` takes them; also a folder that `curate run` left, or Examples. Read with a seed of
    0, so that `limit` draws the same rows for every seed of the settings.
    arm: name of the way the data was treated (None = name of the data); budget: "steps" or "epochs", what the arms of a
    comparison have in common; curation: what making the data cost (None = read from the data where it says so).
    cache: folder, or Cache; holds the lock by which two processes do not write one run.
    log: further places for metrics: "tensorboard", "wandb".
    time_limit: seconds from now after which a checkpoint is saved and ExternalError raised; the same call goes on.

    The same call goes on from the newest checkpoint of an unfinished run, bit for bit on the same hardware and number
    of processes, and does nothing where the run is finished. Under torchrun every rank makes this call.
    SIGTERM and Ctrl-C are obeyed once the step under way is saved, a second one at once.
    Raises InputError for what cannot be trained, for a folder that holds something else (unless `fresh`), and where
    loss or weights are no longer finite: diverged.json in the folder then names the rows. ExternalError: disk or hub.
    """
    deadline = None if time_limit is None else time.monotonic() + time_limit
    check_loggers(log)
    out = local_path(out)
    check_place(out)
    context = Context(cache=cache, device=device, seed=settings.seed, progress=progress or Progress())
    context.torch_device()  # joins the other processes, and names a device that is not there before any work
    with context.progress.stage("read"):
        found = training_data(data, reading)
    settings = with_length(settings, found.examples, context)
    job = Job(found, settings, out, context, arm or found.name, budget, curation or found.curation)
    for note in found.notes:
        context.progress.note(f"  {note}")
    if found.weighted and not _reads_weights(settings):
        context.progress.note(
            "  warning: its column `weight` counts for nothing here; --reweighter GivenWeights uses it"
        )
    with _alone(job):
        if job.folder.finished(fresh=fresh):
            context.progress.note(f"{out} already holds this run; nothing to do (--fresh trains it anew)")
            if _first():
                job.folder.tidy()
            return read_run(out)

        return carry_out(job, fresh=fresh, log=log, deadline=deadline)


def _reads_weights(settings: Finetuning) -> bool:
    return isinstance(settings.reweighter, GivenWeights)


def _first() -> bool:
    return rank() == 0


@contextmanager
def _alone(job: Job) -> Iterator[None]:
    """No other process trains into this folder meanwhile; one rank holds the lock for all."""

    def waiting() -> None:
        job.context.progress.note(f"another process trains into {job.out}; waiting for it")

    key = fingerprint(str(job.out.absolute()))
    with job.context.store.lock("finetune", key, waiting=waiting) if _first() else nullcontext():
        barrier()
        yield
        barrier()
