"""Workers of a Ray cluster in use: started, checked against each other, given work, replaced when they are lost."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.engine.connection import connect, load_ray
from curate.engine.host import COMPARED, Host, own_versions
from curate.engine.protocol import EventKind, Item, Job, WorkerContext
from curate.errors import CurateError, ExternalError, InputError
from curate.storage.atomic import make_folder, publish_file
from curate.storage.remote import is_url, remote, without_secrets
from curate.storage.temporary import temporary_folder

_AHEAD = 2  # items that a worker has at once, so that the next one has arrived when it is done with one
_ATTEMPTS = 3  # times that one piece may lose its worker
_POLL_SECONDS = 1.0
_SLOW = 4.0  # times the median, after which a piece of work is named
_SLOW_SECONDS = 30.0


@dataclass(eq=False)
class Worker:
    """An actor that has said what it is. rows, tokens, seconds: of the items that it has done."""

    number: int
    actor: Any
    about: dict[str, Any]
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"worker {self.number} on {self.about['host']}"


@dataclass
class _Piece:
    """An item that a worker has."""

    worker: Worker
    position: int
    began: float
    told: bool = False


@dataclass
class Session:
    """See `curate.engine.ray.Ray`."""

    address: str
    workers: int | None
    worker_gpus: float | None
    worker_cpus: int
    train_workers: int
    start_timeout: float
    device: str | None
    note: Callable[[str], None]
    _live: list[Worker] = field(default_factory=list)
    _lost: list[Worker] = field(default_factory=list)
    _ended: list[Worker] = field(default_factory=list)
    _numerics: dict[str, dict[str, Any]] = field(default_factory=dict)
    _cache: str | None = None
    _number: int = 0
    _starting: dict[Any, tuple[int, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connected = connect(self.address)
        self.ray = load_ray()
        self._check_room()

    def close(self) -> None:
        """End all workers, and the connection if it was made here."""
        self._release()
        if self._connected:
            self.ray.shutdown()

    # -- workers --------------------------------------------------------------------------------------------------

    def _check_room(self) -> None:
        """Resolve what was left open, and refuse what the cluster can never hold."""
        total = self.ray.cluster_resources()
        gpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0)
        if self.worker_gpus is None:
            self.worker_gpus = 1.0 if gpus else 0.0
        fits = int(cpus // self.worker_cpus)
        if self.worker_gpus:
            fits = min(fits, int(gpus / self.worker_gpus))
        each = f"{self.worker_gpus:g} GPUs and {self.worker_cpus} CPUs each"
        has = f"the cluster has {gpus:g} GPUs and {cpus:g} CPUs"
        for option, asked in (("--workers", self.workers or 1), ("--train-workers", self.train_workers)):
            if asked > fits:
                remedy = f"give {option} {fits}" if fits else "give a smaller --worker-gpus or --worker-cpus"
                raise InputError(f"{has}, and {option} asks for {asked} with {each}; {remedy}, or add nodes")
        self.workers = self.workers or fits

    def _actor(self, number: int, **options: Any) -> Any:
        remote = self.ray.remote(Host).options(
            num_cpus=self.worker_cpus, num_gpus=self.worker_gpus, max_restarts=0, **options
        )
        return remote.remote(number, self.device, self.worker_cpus, self.ray.get)

    def pool(self) -> list[Worker]:
        """The workers, started and checked. Replacements of lost ones join when they are there; one is waited for."""
        assert self.workers is not None
        for _ in range(self.workers - len(self._live) - len(self._starting)):
            actor = self._actor(self._number, scheduling_strategy="SPREAD")
            self._starting[actor.report.remote()] = self._number, actor
            self._number += 1
        began = time.monotonic()
        first = not (self._lost or self._live)
        while self._starting:
            self._admit(0.0 if self._live and not first else _POLL_SECONDS)
            if self._live and not first:
                break
            if time.monotonic() - began > self.start_timeout:
                break
        if not self._live:
            raise ExternalError(
                f"no worker could be started within {self.start_timeout:g} s; see `ray status`, and rerun the same "
                "command when the cluster has room"
            )
        return list(self._live)

    def _admit(self, timeout: float) -> None:
        """Take those that have reported. InputError for one that differs, unless it is to replace another one."""
        ready, _ = self.ray.wait(list(self._starting), num_returns=len(self._starting), timeout=timeout)
        for reference in ready:
            number, actor = self._starting.pop(reference)
            try:
                worker = Worker(number, actor, self.ray.get(reference))
                self._check(worker)
                self.ray.get(actor.use_cache.remote(self._cache))
            except self.ray.exceptions.RayActorError as error:
                if not self._lost:  # one that cannot start at all has another library, or none
                    raise InputError(f"worker {number} cannot start: {_reason(error)}; {_SAME}") from error
            except InputError as error:
                self._end(actor)
                if not self._lost:
                    raise
                self.note(str(error))  # a replacement that does not fit is not used
                self.workers = max(1, (self.workers or 1) - 1)
            else:
                self._live.append(worker)

    def _check(self, worker: Worker) -> None:
        """InputError where its versions are not ours, or its numerics not those of the others."""
        ours, theirs = own_versions(), worker.about["versions"]
        for name in COMPARED:
            if theirs.get(name) != ours.get(name):
                raise InputError(
                    f"{worker.name} has {name} {theirs.get(name, 'missing')}, and here it is "
                    f"{ours.get(name, 'missing')}; {_SAME}"
                )
        for precision, known in self._numerics.items():
            self._check_numerics(worker, self._ask(worker, precision), known)

    def _ask(self, worker: Worker, precision: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.ray.get(worker.actor.numerics.remote(precision))
        except self.ray.exceptions.RayTaskError as error:
            raise InputError(
                f"{worker.name} cannot use --device {self.device} ({_reason(error)}); name one that all workers have"
            ) from error
        return found

    def _check_numerics(self, worker: Worker, own: dict[str, Any], known: dict[str, Any]) -> None:
        differs = [f"{name} {own[name]} instead of {known[name]}" for name in known if own.get(name) != known[name]]
        if differs:
            raise InputError(
                f"{worker.name} computes with {', '.join(differs)}, so its scores could not be compared with those of "
                "the others; take nodes of one kind"
            )

    def _end(self, actor: Any) -> None:
        self.ray.kill(actor)

    def _release(self) -> None:
        for actor in [*(worker.actor for worker in self._live), *(actor for _, actor in self._starting.values())]:
            self._end(actor)
        self._ended += self._live
        self._live.clear()
        self._starting.clear()

    def _drop(self, worker: Worker) -> None:
        if worker in self._live:
            self._live.remove(worker)
            self._lost.append(worker)
            self.note(f"{worker.name} is lost; its work is handed out again")

    def numerics(self, precision: str) -> dict[str, Any]:
        """See `curate.engine.protocol.Engine.numerics`."""
        if precision not in self._numerics:
            workers = self.pool()
            found = {worker: self._ask(worker, precision) for worker in workers}
            known = found[workers[0]]
            for worker, own in found.items():
                self._check_numerics(worker, own, known)
            self._numerics[precision] = known
        return {**self._numerics[precision], "world": self.train_workers}

    # -- what workers see and get -----------------------------------------------------------------------------------

    def shares(self, place: str) -> bool:
        """See `curate.engine.protocol.Engine.shares`."""
        workers = self.pool()
        place = place if is_url(place) else os.path.abspath(place)
        content = os.urandom(16).hex()
        name = f".probe-{content[:8]}"
        with _probe(place, name, content):
            seen = self._get_all([worker.actor.reads.remote(place, name, content) for worker in workers])
        blind = [worker.name for worker, reads in zip(workers, seen, strict=True) if not reads]
        if blind and (any(seen) or is_url(place)):
            raise InputError(
                f"{without_secrets(place)} is not seen by {', '.join(blind)}; mount it there, or log in to it there, "
                "or name a folder that all workers see, or none"
            )
        self._use_cache(None if blind else place)
        return not blind

    def _use_cache(self, folder: str | None) -> None:
        if folder != self._cache:
            self._cache = folder
            self.ray.get([worker.actor.use_cache.remote(folder) for worker in self._live])

    def share(self, value: Any) -> Any:
        """See `curate.engine.protocol.Engine.share`."""
        with self._errors():
            return self.ray.put(value)

    def _require(self, needs: Sequence[str]) -> None:
        asked = sorted(set(needs))
        for worker in self.pool() if asked else ():
            missing = self.ray.get(worker.actor.missing.remote(asked))
            if missing:
                raise InputError(
                    f"{worker.name} has no package {missing[0]}, which the recipe uses; install it on every node"
                )

    # -- items ------------------------------------------------------------------------------------------------------

    def map(
        self,
        make: Callable[[Any, WorkerContext], Callable[[Any], Any]],
        setup: Any,
        items: Sequence[Item],
        needs: Sequence[str],
    ) -> Iterator[tuple[int, Any, str]]:
        """See `curate.engine.protocol.Engine.map`."""
        self._require(needs)
        shared = self.share(setup)
        pending = deque(range(len(items)))
        losses = [0] * len(items)
        ready: set[Worker] = set()
        given: dict[Any, _Piece] = {}
        times: list[float] = []
        while pending or given:
            for worker in self.pool():
                if worker not in ready:
                    worker.actor.make.remote(make, shared)
                    ready.add(worker)
                while pending and sum(piece.worker is worker for piece in given.values()) < _AHEAD:
                    position = pending.popleft()
                    with self._errors():
                        reference = worker.actor.call.remote(items[position].payload())
                    given[reference] = _Piece(worker, position, time.monotonic())
            done, _ = self.ray.wait(list(given), num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                piece = given.pop(reference)
                try:
                    result, seconds = self._get(reference)
                except _Lost:
                    self._drop(piece.worker)
                    losses[piece.position] += 1
                    if losses[piece.position] >= _ATTEMPTS:
                        raise ExternalError(
                            f"{_ATTEMPTS} workers were lost with the same piece of work, last {piece.worker.name}; if "
                            "its memory ran out, give fewer workers per node, and rerun the same command"
                        ) from None
                    pending.appendleft(piece.position)
                    continue
                times.append(seconds)
                item = items[piece.position]
                piece.worker.rows += item.rows
                piece.worker.tokens += item.tokens
                piece.worker.seconds += seconds
                yield piece.position, result, self._rates()
            self._name_slow(given.values(), times)

    def _rates(self) -> str:
        rows = sum(worker.rows / worker.seconds for worker in self._live if worker.seconds)
        return f"{len(self._live)} workers, {rows:,.0f} rows/s"

    def _name_slow(self, pieces: Any, times: Sequence[float]) -> None:
        if not times:
            return
        limit = max(_SLOW_SECONDS, _SLOW * _AHEAD * statistics.median(times))
        for piece in pieces:
            seconds = time.monotonic() - piece.began
            if seconds > limit and not piece.told:
                piece.told = True
                usual = statistics.median(times)
                self.note(f"{piece.worker.name} has had a shard for {seconds:.0f} s; others take {usual:.0f} s")

    def _get(self, reference: Any) -> Any:
        """The value; raises what the work raised, and _Lost where the worker is gone."""
        errors = self.ray.exceptions
        try:
            with self._errors():
                return self.ray.get(reference)
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            raise _Lost from error

    def _errors(self) -> _FullStore:
        return _FullStore(self.ray)

    # -- jobs -------------------------------------------------------------------------------------------------------

    def jobs(self, jobs: Sequence[Job], needs: Sequence[str]) -> Iterator[tuple[int, EventKind, Any]]:
        """See `curate.engine.protocol.Engine.jobs`."""
        self._require(needs)
        pending = deque(range(len(jobs)))
        losses = [0] * len(jobs)
        given: dict[Any, tuple[Worker, int]] = {}
        while pending or given:
            busy = {worker for worker, _ in given.values()}
            for worker in [each for each in self.pool() if each not in busy]:
                if pending:
                    position = pending.popleft()
                    with self._errors():
                        worker.actor.start.remote(jobs[position].run, jobs[position].payload())
                    given[worker.actor.poll.remote(_POLL_SECONDS)] = worker, position
            done, _ = self.ray.wait(list(given), num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                worker, position = given.pop(reference)
                try:
                    events = self._get(reference)
                except _Lost:
                    self._drop(worker)
                    losses[position] = self._lost_again(losses[position], jobs[position])
                    pending.appendleft(position)
                    continue
                ended = False
                for kind, about in events:
                    losses[position] = 0 if kind == "value" else losses[position]
                    if kind == "error":
                        raise about
                    if kind == "end":
                        ended = True
                    else:
                        yield position, kind, about
                if not ended:
                    given[worker.actor.poll.remote(_POLL_SECONDS)] = worker, position

    def _lost_again(self, losses: int, job: Job) -> int:
        if losses + 1 >= _ATTEMPTS:
            raise ExternalError(
                f"{_ATTEMPTS} workers were lost with {job.name}; if their memory ran out, give them more, and rerun "
                "the same command to resume"
            )
        return losses + 1

    def group(self, job: Job, needs: Sequence[str]) -> Iterator[tuple[EventKind, Any]]:
        """See `curate.engine.protocol.Engine.group`."""
        if self.train_workers == 1:
            for _, kind, about in self.jobs([job], needs):
                yield kind, about
            return
        self._require(needs)
        self._release()  # the ranks take their place
        losses = 0
        while True:
            try:
                for kind, about in self._ranks(job):
                    losses = 0 if kind == "value" else losses
                    yield kind, about
                return
            except _Lost:
                self.note(f"a rank of {job.name} is lost; the others are started again with a new one")
                losses = self._lost_again(losses, job)

    def _ranks(self, job: Job) -> Iterator[tuple[EventKind, Any]]:
        """One attempt of a group. Raises _Lost where a rank is gone."""
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        world = self.train_workers
        bundle = {"CPU": float(self.worker_cpus)} | ({"GPU": self.worker_gpus} if self.worker_gpus else {})
        place = placement_group([bundle] * world, strategy="PACK")
        actors: list[Any] = []
        try:
            if not place.wait(self.start_timeout):
                raise ExternalError(
                    f"the cluster had no room for {world} training ranks within {self.start_timeout:g} s; see `ray "
                    "status`, and rerun the same command"
                )
            for rank in range(world):
                strategy = PlacementGroupSchedulingStrategy(place, placement_group_bundle_index=rank)
                actors.append(self._actor(rank, scheduling_strategy=strategy))
            host, port = self._get(actors[0].address.remote())
            self._get_all([actor.use_cache.remote(self._cache) for actor in actors])
            variables = {"MASTER_ADDR": host, "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "LOCAL_RANK": "0"}
            variables |= {"TORCHELASTIC_RUN_ID": f"curate-{port}", "OMP_NUM_THREADS": str(self.worker_cpus)}
            self._get_all([actor.join.remote({**variables, "RANK": str(rank)}) for rank, actor in enumerate(actors)])
            with self._errors():
                payload = self.ray.put(job.payload())
            self._get_all([actor.start.remote(job.run, payload) for actor in actors])
            ended = [False] * world
            while not all(ended):
                polls = [actor.poll.remote(_POLL_SECONDS) for actor in actors]
                for rank, events in enumerate(self._get_all(polls)):
                    for kind, about in events:
                        if kind == "error":
                            raise about
                        if kind == "end":
                            ended[rank] = True
                        elif rank == 0:
                            yield kind, about
        finally:
            for actor in actors:
                self._end(actor)
            remove_placement_group(place)

    def _get_all(self, references: Sequence[Any]) -> list[Any]:
        return [self._get(reference) for reference in references]

    def record(self) -> dict[str, Any]:
        """See `curate.engine.protocol.Engine.record`."""
        return {
            "engine": "ray",
            "workers": [
                {
                    "worker": worker.number,
                    **{name: worker.about[name] for name in ("host", "pid", "log")},
                    "rows": worker.rows,
                    "rows_per_second": _rate(worker.rows, worker.seconds),
                    "tokens_per_second": _rate(worker.tokens, worker.seconds),
                    "lost": worker in self._lost,
                }
                for worker in sorted([*self._lost, *self._ended, *self._live], key=lambda each: each.number)
            ],
        }


_SAME = f"every node needs the same curate, torch and Python {platform.python_version()}"


@contextmanager
def _probe(place: str, name: str, content: str) -> Iterator[None]:
    """A small file in a folder or at a URL, while workers look for it."""
    if not is_url(place):
        probe = Path(place) / name
        make_folder(probe.parent)
        publish_file(probe, content)
        try:
            yield
        finally:
            probe.unlink(missing_ok=True)
        return
    there = remote(place).join(name)
    with temporary_folder("curate-probe-") as folder:
        (folder / name).write_text(content)
        there.write(folder / name)
    try:
        yield
    finally:
        there.remove()


class _Lost(Exception):
    """The worker is gone."""


class _FullStore:
    """Turns an object store without room into an ExternalError."""

    def __init__(self, ray: Any) -> None:
        self.full = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, self.full):
            raise ExternalError(
                "Ray's object store is full, and its disk has no room to spill to; start nodes with more "
                "--object-store-memory or disk, or use a cache that all workers see, and rerun the same command"
            ) from error


def _cause(error: Any) -> BaseException:
    """What the work raised."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return cause
    return CurateError(f"a worker failed: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The last line of the error, where Ray quotes what was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:240] if lines else type(error).__name__


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if seconds else None
