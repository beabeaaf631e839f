"""Doing a list of runs, in as many processes as are started on it, until it is done or the time is up."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.reproduction.settings import Job
from curate.errors import InputError

_PAUSE = 5.0  # seconds until a process looks again whether the others are done


def finished(job: Job, out: Path) -> bool:
    """InputError where the run that is there is of another protocol: one folder holds what can be compared."""
    place = out / "runs" / job.folder / "run.json"
    if not place.is_file():
        return False
    if json.loads(place.read_text(encoding="utf-8"))["settings"] != json.loads(json.dumps(job.settings.written)):
        raise InputError(f"{place.parent} is a run with other settings; name another --out")
    return True


def work_together(
    jobs: Sequence[Job], out: Path, *, workers: int, deadline: float | None, science_file: Path | None
) -> bool:
    """`work` in so many processes of one thread each; whether all is done. InputError of a worker ends it alone."""
    if workers == 1:
        return work(jobs, out, deadline, science_file)
    in_processes(work, (jobs, out, deadline, science_file), workers)
    return all(finished(job, out) for job in jobs)


def in_processes(target: Callable[..., Any], arguments: tuple[Any, ...], workers: int) -> None:
    """Call `target` in so many spawned processes, which share the work through files; exits where one fails."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("a worker failed; what it said stands above, and the same command goes on")


def work(jobs: Sequence[Job], out: Path, deadline: float | None, science_file: Path | None = None) -> bool:
    """Every run that is not finished and that no other process has in hand; whether all are finished.

    A run is never begun after the deadline (seconds of the monotonic clock). What a killed process leaves behind is
    one run to do again: locks vanish with their process.
    """
    import torch

    torch.set_num_threads(1)
    while pending := [job for job in jobs if not finished(job, out)]:
        busy = True
        for job in pending:
            if deadline is not None and time.monotonic() > deadline:
                return False
            busy &= not _one(job, out, science_file)
        if busy:
            time.sleep(_PAUSE)
    return True


def _one(job: Job, out: Path, science_file: Path | None) -> bool:
    """Whether the run was ours to do."""
    from benchmarks.reproduction.preparation import prepare
    from benchmarks.reproduction.runs import run_job

    with _locked(out / "locks" / job.folder) as is_locked:
        if not is_locked or finished(job, out):
            return False
        with _locked(out / "locks" / f"models-{job.seed}") as free:
            if not free:
                return False  # another process pretrains this seed's models
            prepared = prepare(job.settings, job.seed, out / "models" / f"seed-{job.seed}", science_file)
        started = time.monotonic()
        run_job(job, prepared, out / "cache", out / "runs" / job.folder)
        print(f"{job.folder}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock for the block, unless another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
