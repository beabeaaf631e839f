"""The engine protocol, and the context of code that runs on a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

EventKind = Literal["advance", "note", "value"]


@dataclass(frozen=True)
class WorkerContext:
    """The context of code on a worker.

    number: of the worker, from 0. device: see `curate.context.Context`. cache: folder or URL of a cache, the driver's
    if `shared`, else a temporary one. fetch: returns the value of a reference from `Engine.share`. emit: sends an event
    to the driver (jobs only). address: of this machine, for others. stopped: whether a job should end.
    """

    number: int
    device: str | None
    cache: str
    shared: bool
    fetch: Callable[[Any], Any]
    emit: Callable[[EventKind, Any], None]
    address: str = "127.0.0.1"
    stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Item:
    """A piece of work. payload: makes a worker's input when it is its turn; rows, tokens: size of the work."""

    payload: Callable[[], Any]
    rows: int
    tokens: int = 0


@dataclass(frozen=True)
class Job:
    """A long-running piece of work on one worker or a group of ranks.

    run: on the worker, `run(payload, worker context)` yields values, which the driver stores if they must not
    be lost. payload: makes its input; called again after a worker was lost, to resume from what is stored. name: of
    the job, for messages.
    """

    name: str
    run: Callable[[Any, WorkerContext], Iterator[Any]]
    payload: Callable[[], Any]


class Engine(Protocol):
    """Workers in other processes, possibly on other machines. All have the same versions and numerics.

    A lost worker is replaced and its work reassigned: a piece may be done twice, but each result arrives once.
    Errors of the work are raised unchanged; ExternalError if no worker is left.
    """

    @property
    def train_workers(self) -> int:
        """Number of ranks that train a proxy."""
        ...

    def notify(self, note: Callable[[str], None]) -> None:
        """Report messages about workers to `note`, one line each."""
        ...

    def numerics(self, precision: Any) -> dict[str, Any]:
        """`curate.devices.precision.numerics` of the workers, with `train_workers` as the world size."""
        ...

    def shares(self, place: str) -> bool:
        """Whether all workers see a folder, or a URL, as the driver does; it then becomes their cache.

        InputError, naming them, if only some of them see it, and for a URL that they do not see.
        """
        ...

    def share(self, value: Any) -> Any:
        """A reference to a value, which workers fetch from the nearest copy."""
        ...

    def map(
        self,
        make: Callable[[Any, WorkerContext], Callable[[Any], Any]],
        setup: Any,
        items: Sequence[Item],
        *,
        stage: str,
        needs: Sequence[str] = (),
        window: int | None = None,
    ) -> Iterator[tuple[int, Any, str]]:
        """(position, result, progress text) of every item.

        Every worker calls `make(setup, worker context)` once, and the result with each item that it takes. stage: what
        the work is, for messages and the record. needs: packages of plug-ins, see
        `curate.engine.packages.package_names`: those that workers lack are sent. window: results arrive in
        the order of the items, of which at most this many are in progress or waiting for earlier ones; None = results
        arrive in the order in which they finish.
        """
        ...

    def jobs(self, jobs: Sequence[Job], *, needs: Sequence[str] = ()) -> Iterator[tuple[int, EventKind, Any]]:
        """(position, kind, value) of events and values of jobs, which run side by side, one per worker."""
        ...

    def group(self, job: Job, *, needs: Sequence[str] = ()) -> Iterator[tuple[EventKind, Any]]:
        """Events and values of one job on the first of `train_workers` ranks, which are set up as by torchrun."""
        ...

    def services(
        self, jobs: Sequence[Job], gpus: float, stopped: Callable[[], bool]
    ) -> Iterator[tuple[int, EventKind, Any]]:
        """(position, kind, value) of events and values of jobs that run until `stopped()`, all at the same time, each
        on a separate worker with that many GPUs, in place of other workers.

        A lost one restarts elsewhere, and yields None at that moment.
        """
        ...

    def resources(self) -> dict[str, Any]:
        """Resources: nodes, CPUs and GPUs of the cluster, and the number of workers."""
        ...

    def record(self) -> dict[str, Any]:
        """Facts for run.json: workers with their nodes, logs and rates."""
        ...
