"""Distribute items and jobs over the workers of a Ray cluster, again if a worker is lost."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.engine.connection import WorkerLost
from curate.engine.pool import Done, Pool, Worker
from curate.engine.protocol import EventKind, Item, Job, WorkerContext
from curate.errors import ExternalError, InputError

_AHEAD = 2  # items a worker holds at once, so that it never waits for the next one
_ATTEMPTS = 3  # workers that one piece may lose
_POLL_SECONDS = 1.0
_STOP_SECONDS = 30.0  # time a service may take to end by itself
_SLOW = 4.0  # times the median, from which a piece of work is reported
_SLOW_SECONDS = 30.0
_TYPICAL = 256  # pieces of work whose times say what is usual


@dataclass
class _Piece:
    """An item assigned to a worker."""

    worker: Worker
    position: int
    began: float
    reported: bool = False


# -- items ------------------------------------------------------------------------------------------------------


def map_items(
    pool: Pool,
    make: Callable[[Any, WorkerContext], Callable[[Any], Any]],
    setup: Any,
    items: Sequence[Item],
    stage: str,
    needs: Sequence[str],
    window: int | None,
) -> Iterator[tuple[int, Any, str]]:
    """See `curate.engine.protocol.Engine.map`. Runs on the driver, in the thread of the caller."""
    pool.require(needs)
    shared = pool.share(setup)
    pending = deque(range(len(items)))
    waiting: dict[int, Any] = {}  # results that arrived before earlier ones
    next_position = 0  # the next result in order
    losses = [0] * len(items)
    functions: dict[Worker, Any] = {}
    in_flight: dict[Any, _Piece] = {}
    times: deque[float] = deque(maxlen=_TYPICAL)
    while pending or in_flight:
        for worker in pool.workers_now():
            if worker not in functions:
                functions[worker] = worker.actor.make.remote(make, shared)
            while pending and sum(piece.worker is worker for piece in in_flight.values()) < _AHEAD:
                if window is not None and pending[0] >= next_position + window:
                    break
                position = pending.popleft()
                with pool.errors():
                    reference = worker.actor.call.remote(items[position].payload(), functions[worker])
                in_flight[reference] = _Piece(worker, position, time.monotonic())
        done, _ = pool.ray.wait(list(in_flight), num_returns=1, timeout=_POLL_SECONDS)
        for reference in done:
            piece = in_flight.pop(reference)
            try:
                result, seconds = pool.get(reference)
            except WorkerLost:
                pool.drop(piece.worker)
                losses[piece.position] += 1
                if losses[piece.position] >= _ATTEMPTS:
                    raise ExternalError(
                        f"{_ATTEMPTS} workers were lost with the same piece of work, last {piece.worker.name}; if "
                        "its memory ran out, give fewer workers per node, and rerun the same command"
                    ) from None
                pending.appendleft(piece.position)
                continue
            times.append(seconds)
            piece.worker.done.setdefault(stage, Done()).add(items[piece.position], seconds)
            if window is None:
                yield piece.position, result, _rates(pool, stage)
                continue
            waiting[piece.position] = result
            while next_position in waiting:
                yield next_position, waiting.pop(next_position), _rates(pool, stage)
                next_position += 1
        _name_slow(pool, in_flight.values(), times)


def _rates(pool: Pool, stage: str) -> str:
    """The workers that have done something of a stage: their number, their rate together, and that of each."""
    done = [worker.done[stage] for worker in pool.live if stage in worker.done and worker.done[stage].seconds]
    rates = sorted(item.rows / item.seconds for item in done)
    text = f"{len(pool.live)} workers, {sum(rates):,.0f} rows/s"
    if tokens := sum(item.tokens / item.seconds for item in done):
        text += f", {tokens:,.0f} tokens/s"
    return text if len(rates) < 2 else f"{text} ({rates[0]:,.0f}..{rates[-1]:,.0f} rows/s each)"


def _name_slow(pool: Pool, pieces: Any, times: Collection[float]) -> None:
    if not times:
        return
    usual = statistics.median(times)
    limit = max(_SLOW_SECONDS, _SLOW * _AHEAD * usual)
    for piece in pieces:
        seconds = time.monotonic() - piece.began
        if seconds > limit and not piece.reported:
            piece.reported = True
            pool.note(f"{piece.worker.name} has been processing a shard for {seconds:.0f} s; typical: {usual:.0f} s")


# -- jobs -------------------------------------------------------------------------------------------------------


def run_jobs(pool: Pool, jobs: Sequence[Job], needs: Sequence[str]) -> Iterator[tuple[int, EventKind, Any]]:
    """See `curate.engine.protocol.Engine.jobs`. Runs on the driver, in the thread of the caller."""
    pool.require(needs)
    pending = deque(range(len(jobs)))
    losses = [0] * len(jobs)
    working: dict[Worker, int] = {}
    polls: dict[Any, Worker] = {}
    try:
        while pending or working:
            for worker in pool.workers_now():
                if pending and worker not in working:
                    working[worker] = position = pending.popleft()
                    with pool.errors():
                        worker.actor.start.remote(jobs[position].run, jobs[position].payload())
                    polls[worker.actor.poll.remote(_POLL_SECONDS)] = worker
            done, _ = pool.ray.wait(list(polls), num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                worker = polls.pop(reference)
                position = working[worker]
                try:
                    events = pool.get(reference)
                except WorkerLost:
                    del working[worker]
                    pool.drop(worker)
                    losses[position] = _lost_again(losses[position], jobs[position])
                    pending.appendleft(position)
                    continue
                for kind, value in events:
                    losses[position] = 0 if kind == "value" else losses[position]
                    if kind in ("error", "end"):
                        del working[worker]
                    if kind == "error":
                        raise value
                    if kind != "end":
                        yield position, kind, value
                if worker in working:
                    polls[worker.actor.poll.remote(_POLL_SECONDS)] = worker
    finally:
        for worker in working:  # after an error or an interrupt, the jobs would go on
            pool.stop(worker)


def _lost_again(losses: int, job: Job) -> int:
    if losses + 1 >= _ATTEMPTS:
        raise ExternalError(
            f"{_ATTEMPTS} workers were lost with {job.name}; if their memory ran out, give them more, and rerun "
            "the same command to resume"
        )
    return losses + 1


def run_group(pool: Pool, job: Job, needs: Sequence[str]) -> Iterator[tuple[EventKind, Any]]:
    """See `curate.engine.protocol.Engine.group`. Runs on the driver, in the thread of the caller."""
    if pool.train_workers == 1:
        for _, kind, value in run_jobs(pool, [job], needs):
            yield kind, value
        return
    pool.require(needs)
    pool.release()  # the ranks take their place
    losses = 0
    while True:
        try:
            for kind, value in _ranks(pool, job):
                losses = 0 if kind == "value" else losses
                yield kind, value
            return
        except WorkerLost:
            pool.note(f"a rank of {job.name} is lost; the others are started again with a new one")
            losses = _lost_again(losses, job)


def _ranks(pool: Pool, job: Job) -> Iterator[tuple[EventKind, Any]]:
    """One attempt at a job on a group of ranks. Raises WorkerLost if a rank is gone."""
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    world = pool.train_workers
    bundle = {"CPU": float(pool.worker_cpus)} | ({"GPU": pool.worker_gpus} if pool.worker_gpus else {})
    place = placement_group([bundle] * world, strategy="PACK")
    actors: list[Any] = []
    try:
        if not place.wait(pool.start_timeout):
            raise ExternalError(
                f"the cluster had no room for {world} training ranks within {pool.start_timeout:g} s; see `ray "
                "status`, and rerun the same command"
            )
        for rank in range(world):
            strategy = PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=rank)
            actors.append(pool.actor(rank, scheduling_strategy=strategy))
        for rank, actor in enumerate(actors):
            pool.check(Worker(rank, actor, pool.get(actor.report.remote())))
        host, port = pool.get(actors[0].address.remote())
        pool.get_all([actor.use_cache.remote(pool.cache) for actor in actors])
        variables = {"MASTER_ADDR": host, "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "LOCAL_RANK": "0"}
        variables |= {"TORCHELASTIC_RUN_ID": f"curate-{port}", "OMP_NUM_THREADS": str(pool.worker_cpus)}
        pool.get_all([actor.join.remote({**variables, "RANK": str(rank)}) for rank, actor in enumerate(actors)])
        with pool.errors():
            payload = pool.ray.put(job.payload())
        pool.get_all([actor.start.remote(job.run, payload) for actor in actors])
        ended = [False] * world
        while not all(ended):
            polls = [actor.poll.remote(_POLL_SECONDS) for actor in actors]
            for rank, events in enumerate(pool.get_all(polls)):
                for kind, value in events:
                    if kind == "error":
                        raise value
                    if kind == "end":
                        ended[rank] = True
                    elif rank == 0:
                        yield kind, value
    finally:
        for actor in actors:
            pool.end(actor)
        remove_placement_group(place)


# -- services ---------------------------------------------------------------------------------------------------


def run_services(
    pool: Pool, jobs: Sequence[Job], gpus: float, stopped: Callable[[], bool]
) -> Iterator[tuple[int, EventKind, Any]]:
    """See `curate.engine.protocol.Engine.services`."""
    pool.release()  # the services need their GPUs
    _check_services(pool, len(jobs), gpus)
    workers: dict[int, Worker] = {}  # by position of the job
    reports: dict[Any, int] = {}
    losses = [0] * len(jobs)

    def place(position: int) -> None:
        """Queue the first calls of the actor, which may have to wait until there is room for it."""
        actor = pool.actor(position, num_gpus=gpus, scheduling_strategy="SPREAD")
        workers[position] = Worker(position, actor, {})
        reports[actor.report.remote()] = position
        with pool.errors():
            actor.start.remote(jobs[position].run, jobs[position].payload())

    try:
        for position in range(len(jobs)):
            place(position)
        while not stopped():
            done, _ = pool.ray.wait(list(reports), num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                position = reports.pop(reference)
                worker = workers[position]
                try:
                    answer = pool.get(reference)
                except WorkerLost:
                    pool.note(f"the worker of {jobs[position].name} is lost; another one takes its place")
                    losses[position] = _lost_again(losses[position], jobs[position])
                    yield position, "value", None
                    place(position)
                    continue
                if isinstance(answer, dict):
                    worker.facts = answer
                    pool.check_versions(worker)
                    answer = []
                for kind, value in answer:
                    if kind == "error":
                        raise value
                    losses[position] = 0 if kind == "value" else losses[position]
                    if kind != "end":
                        yield position, kind, value
                reports[worker.actor.poll.remote(_POLL_SECONDS)] = position
    finally:
        ends = [worker.actor.stop.remote(_STOP_SECONDS) for worker in workers.values()]
        pool.ray.wait(ends, num_returns=len(ends), timeout=_STOP_SECONDS + 1.0)
        for worker in workers.values():
            pool.end(worker.actor)


def _check_services(pool: Pool, count: int, gpus: float) -> None:
    """Raise InputError if the cluster can never hold that many services."""
    total = pool.ray.cluster_resources()
    has = total.get("GPU", 0.0), total.get("CPU", 0.0)
    if count * gpus > has[0] or count * pool.worker_cpus > has[1]:
        raise InputError(
            f"the cluster has {has[0]:g} GPUs and {has[1]:g} CPUs, and {count} servers with {gpus:g} GPUs and "
            f"{pool.worker_cpus} CPUs each are asked for; ask for fewer or smaller ones, or add nodes"
        )
