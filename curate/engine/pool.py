"""Pool of workers on a Ray cluster: started, checked against each other, and replaced when lost."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.engine.connection import FullStore, WorkerLost, cause, connect, load_ray, reason
from curate.engine.host import COMPARED, Host, own_versions
from curate.engine.packages import Files, package_digest, package_files
from curate.engine.protocol import Item
from curate.engine.tables import send_views
from curate.errors import ExternalError, InputError
from curate.storage.atomic import make_folder, publish_file
from curate.storage.places import is_url, without_secrets
from curate.storage.remote import remote
from curate.storage.temporary import temporary_folder

_POLL_SECONDS = 1.0


@dataclass
class Done:
    """The items that a worker has done of one stage."""

    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, item: Item, seconds: float) -> None:
        self.rows += item.rows
        self.tokens += item.tokens
        self.seconds += seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "rows_per_second": _rate(self.rows, self.seconds),
            "tokens_per_second": _rate(self.tokens, self.seconds),
        }


@dataclass(eq=False)
class Worker:
    """An actor that has reported. done: what it did, by stage."""

    number: int
    actor: Any
    facts: dict[str, Any]
    done: dict[str, Done] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"worker {self.number} on {self.facts['host']}"


@dataclass
class Pool:
    """Workers of a cluster, see `curate.engine.ray.Ray` for the settings."""

    address: str
    workers: int | None
    worker_gpus: float | None
    worker_cpus: int
    train_workers: int
    start_timeout: float
    device: str | None
    note: Callable[[str], None]
    live: list[Worker] = field(default_factory=list)
    _lost: list[Worker] = field(default_factory=list)
    _ended: list[Worker] = field(default_factory=list)
    _numerics: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache: str | None = None
    _required: set[str] = field(default_factory=set)
    _told_of_packages: bool = False
    _number: int = 0
    _starting: dict[Any, tuple[int, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connected = connect(self.address)
        self.ray = load_ray()
        try:
            self.ray.put(None)  # with the first value, Ray decides how it sends tables
            send_views(self.ray)
            self._check_room()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers, and the connection if it was made here."""
        self.release()
        if self._connected:
            self.ray.shutdown()

    # -- workers --------------------------------------------------------------------------------------------------

    def _check_room(self) -> None:
        """Resolve unset numbers of workers and GPUs, and reject those that the cluster can never provide."""
        total = self.ray.cluster_resources()
        gpus, cpus = total.get("GPU", 0.0), total.get("CPU", 0.0)
        if self.worker_gpus is None:
            self.worker_gpus = 1.0 if gpus else 0.0
        fits = int(cpus // self.worker_cpus)
        if self.worker_gpus:
            fits = min(fits, int(gpus / self.worker_gpus))
        needs = f"{self.worker_gpus:g} GPUs and {self.worker_cpus} CPUs each"
        has = f"the cluster has {gpus:g} GPUs and {cpus:g} CPUs"
        for option, number in (("--workers", self.workers or 1), ("--train-workers", self.train_workers)):
            if number > fits:
                remedy = f"give {option} {fits}" if fits else "give a smaller --worker-gpus or --worker-cpus"
                raise InputError(f"{has}, and {option} asks for {number} with {needs}; {remedy}, or add nodes")
        self.workers = self.workers or fits

    def actor(self, number: int, **options: Any) -> Any:
        settings = {"num_cpus": self.worker_cpus, "num_gpus": self.worker_gpus, "max_restarts": 0, **options}
        remote = self.ray.remote(Host).options(**settings)
        return remote.remote(number, self.device, self.worker_cpus, self.ray.get, self.ray.util.get_node_ip_address)

    def workers_now(self) -> list[Worker]:
        """The workers, started and checked. Replacements join when they are up; waits only if no worker is left."""
        assert self.workers is not None
        for _ in range(self.workers - len(self.live) - len(self._starting)):
            actor = self.actor(self._number, scheduling_strategy="SPREAD")
            self._starting[actor.report.remote()] = self._number, actor
            self._number += 1
        began = time.monotonic()
        first = not (self._lost or self.live)
        while self._starting:
            self._admit(0.0 if self.live and not first else _POLL_SECONDS)
            if self.live and not first:
                break
            if time.monotonic() - began > self.start_timeout:
                break
        if not self.live:
            waited = time.monotonic() - began > self.start_timeout
            problem = f"no worker could be started within {self.start_timeout:g} s" if waited else "no worker is left"
            raise ExternalError(f"{problem}; see `ray status`, and rerun the same command when the cluster has room")
        return list(self.live)

    def _admit(self, timeout: float) -> None:
        """Admit workers that have reported. InputError for one that differs, unless it replaces a lost one."""
        ready, _ = self.ray.wait(list(self._starting), num_returns=len(self._starting), timeout=timeout)
        for reference in ready:
            number, actor = self._starting.pop(reference)
            try:
                worker = Worker(number, actor, self.ray.get(reference))
                self.check(worker)
                self.get(actor.use_cache.remote(self.cache))
            except (self.ray.exceptions.RayActorError, WorkerLost) as error:
                if not self._lost:  # a worker that cannot start at all lacks a library or has another version
                    raise InputError(f"worker {number} cannot start: {reason(error)}; {_SAME}") from error
            except InputError as error:
                self.end(actor)
                if not self._lost:
                    raise
                self.note(str(error))  # a replacement that differs is not used
                self.workers = max(1, (self.workers or 1) - 1)
            else:
                self.live.append(worker)

    def check(self, worker: Worker) -> None:
        """Raise InputError if its versions differ from the driver's, or its numerics from other workers'."""
        self.check_versions(worker)
        self._check_packages(worker, sorted(self._required))
        for precision, driver_values in self._numerics.items():
            self._check_numerics(worker, self.get(worker.actor.numerics.remote(precision)), driver_values)

    def check_versions(self, worker: Worker) -> None:
        """Raise InputError if these versions differ from the driver's."""
        own, of_worker = own_versions(), worker.facts["versions"]
        for name in COMPARED:
            if of_worker.get(name) != own.get(name):
                raise InputError(
                    f"{worker.name} has {name} {of_worker.get(name, 'missing')}, and here it is "
                    f"{own.get(name, 'missing')}; {_SAME}"
                )

    def _ask_all(self, method: str, *arguments: Any) -> dict[Worker, Any]:
        """The answers of all workers; if one is lost meanwhile, its replacement is asked too."""
        answers: dict[Worker, Any] = {}
        while workers := [worker for worker in self.workers_now() if worker not in answers]:
            references = [getattr(worker.actor, method).remote(*arguments) for worker in workers]
            for worker, reference in zip(workers, references, strict=True):
                try:
                    answers[worker] = self.get(reference)
                except WorkerLost:
                    self.drop(worker)
        return {worker: answers[worker] for worker in self.live if worker in answers}

    def _check_numerics(self, worker: Worker, own: dict[str, Any], known: dict[str, Any]) -> None:
        differs = [f"{name} {own[name]} instead of {known[name]}" for name in known if own.get(name) != known[name]]
        if differs:
            raise InputError(
                f"{worker.name} computes with {', '.join(differs)}, so its scores could not be compared with those of "
                "the others; take nodes of one kind"
            )

    def end(self, actor: Any) -> None:
        self.ray.kill(actor)

    def stop(self, worker: Worker) -> None:
        """End a worker in the middle of its work; another one takes its place when there is work again."""
        if worker in self.live:
            self.live.remove(worker)
            self._ended.append(worker)
            self.end(worker.actor)

    def release(self) -> None:
        for actor in [*(worker.actor for worker in self.live), *(actor for _, actor in self._starting.values())]:
            self.end(actor)
        self._ended += self.live
        self.live.clear()
        self._starting.clear()

    def drop(self, worker: Worker) -> None:
        if worker in self.live:
            self.live.remove(worker)
            self._lost.append(worker)
            self.note(f"{worker.name} is lost; its work is being rescheduled")

    def numerics(self, precision: str) -> dict[str, Any]:
        """See `curate.engine.protocol.Engine.numerics`."""
        if precision not in self._numerics:
            answers = self._ask_all("numerics", precision)
            first_answer = next(iter(answers.values()))
            for worker, own in answers.items():
                self._check_numerics(worker, own, first_answer)
            self._numerics[precision] = first_answer
        return {**self._numerics[precision], "world": self.train_workers}

    # -- what workers see and get -----------------------------------------------------------------------------------

    def shares(self, place: str) -> bool:
        """See `curate.engine.protocol.Engine.shares`."""
        place = place if is_url(place) else os.path.abspath(place)
        content = os.urandom(16).hex()
        name = f".probe-{content[:8]}"
        with _probe(place, name, content):
            read_texts = self._ask_all("reads", place, name, content)
        blind = [worker.name for worker, reads in read_texts.items() if not reads]
        if blind and (any(read_texts.values()) or is_url(place)):
            raise InputError(
                f"{without_secrets(place)} is not seen by {', '.join(blind)}; mount it there, or log in to it there, "
                "or name a folder that all workers see, or none"
            )
        self._use_cache(None if blind else place)
        return not blind

    def _use_cache(self, folder: str | None) -> None:
        if folder != self.cache:
            self.cache = folder
            self._ask_all("use_cache", folder)

    def share(self, value: Any) -> Any:
        """See `curate.engine.protocol.Engine.share`."""
        with self.errors():
            return self.ray.put(value)

    def require(self, needs: Sequence[str]) -> None:
        """Send packages that workers lack, now or when they join later. Raises InputError for one that they must have
        installed, and one that differs from the driver's."""
        new = sorted(set(needs) - self._required)
        if not new:
            return
        for worker in self.workers_now():
            try:
                self._check_packages(worker, new)
            except WorkerLost:
                self.drop(worker)
        self._required.update(new)

    def _check_packages(self, worker: Worker, names: Sequence[str]) -> None:
        """Send packages that a worker lacks, see `require`."""
        if not names:
            return
        of_worker = self.get(worker.actor.packages.remote(names))
        sent: dict[str, Files] = {}
        for name in names:
            if of_worker[name] is None:
                try:
                    sent[name] = package_files(name)
                except InputError as error:
                    raise InputError(
                        f"{worker.name} has no package {name}, which the recipe uses, and it cannot be sent there: "
                        f"{error}; install it on every node"
                    ) from error
            elif of_worker[name] != package_digest(name):
                raise InputError(
                    f"{worker.name} has another version of the package {name}, which the recipe uses, than this "
                    "machine; install the same on every node"
                )
        if sent and not self._told_of_packages:
            self._told_of_packages = True
            self.note(f"sent to workers that lack it: {', '.join(sent)}")
        if (problem := self.get(worker.actor.install.remote(sent, names))) is not None:
            raise InputError(f"{worker.name} {problem}; install what it needs on every node")

    def get(self, reference: Any) -> Any:
        """The value of a reference; raises what the work raised, and WorkerLost if the worker is gone."""
        errors = self.ray.exceptions
        try:
            with self.errors():
                return self.ray.get(reference)
        except errors.RayTaskError as error:
            raise cause(error) from error
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            raise WorkerLost from error

    def errors(self) -> FullStore:
        return FullStore(self.ray)

    def get_all(self, references: Sequence[Any]) -> list[Any]:
        return [self.get(reference) for reference in references]

    def resources(self) -> dict[str, Any]:
        """See `curate.engine.protocol.Engine.resources`."""
        total = self.ray.cluster_resources()
        nodes = sum(node["Alive"] for node in self.ray.nodes())
        return {"nodes": nodes, "cpus": total.get("CPU", 0.0), "gpus": total.get("GPU", 0.0), "workers": self.workers}

    def record(self) -> dict[str, Any]:
        """See `curate.engine.protocol.Engine.record`."""
        return {
            "engine": "ray",
            "workers": [
                {
                    "worker": worker.number,
                    **{name: worker.facts[name] for name in ("host", "pid", "log")},
                    "stages": {stage: done.to_json() for stage, done in worker.done.items()},
                    "lost": worker in self._lost,
                }
                for worker in sorted([*self._lost, *self._ended, *self.live], key=lambda worker: worker.number)
            ],
        }


_SAME = f"every node needs the same curate, torch and Python {platform.python_version()}"


@contextmanager
def _probe(place: str, name: str, content: str) -> Iterator[None]:
    """A small file in a folder or at a URL while workers look for it."""
    if not is_url(place):
        probe = Path(place) / name
        make_folder(probe.parent)
        publish_file(probe, content)
        try:
            yield
        finally:
            probe.unlink(missing_ok=True)
        return
    file = remote(place).join(name)
    with temporary_folder("curate-probe-") as folder:
        (folder / name).write_text(content)
        file.write(folder / name)
    try:
        yield
    finally:
        file.remove()


def _rate(count: int, seconds: float) -> float | None:
    """Items per second; None if no time was spent."""
    return round(count / seconds, 1) if seconds else None
