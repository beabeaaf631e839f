"""What a run asks of an engine, and what code that runs on a worker is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

EventKind = Literal["advance", "note", "value"]


@dataclass(frozen=True)
class WorkerContext:
    """The surroundings of code on a worker.

    number: of the worker, from 0. device: as of `curate.context.Context`. cache: folder or URL of a cache, that of the
    driver where `shared`, else a temporary one. fetch: the value of what `Engine.share` returned. emit: sends an event
    to the driver, of a job only. address: of this machine, for other ones. stopped: whether a job is to end.
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
    """A piece of work. payload: makes what a worker gets, when it is its turn; rows, tokens: what it amounts to."""

    payload: Callable[[], Any]
    rows: int
    tokens: int = 0


@dataclass(frozen=True)
class Job:
    """Work of many steps, on one worker or a group of ranks.

    run: on the worker, `run(payload, worker context)` yields values, from which the driver stores what it must not
    lose. payload: makes what it is given; called again when a worker was lost, to resume from what is stored. name: of
    the job, for messages.
    """

    name: str
    run: Callable[[Any, WorkerContext], Iterator[Any]]
    payload: Callable[[], Any]


class Engine(Protocol):
    """Workers in other processes, perhaps on other machines. All report the same versions and numerics.

    A lost worker is replaced and its work handed out again: any piece may be done twice, each result arrives once.
    Errors of the work are raised as they are; ExternalError if no worker is left.
    """

    @property
    def train_workers(self) -> int:
        """Ranks that train a proxy."""
        ...

    def notify(self, note: Callable[[str], None]) -> None:
        """Tell what happens to workers there, a line each."""
        ...

    def numerics(self, precision: Any) -> dict[str, Any]:
        """As `curate.devices.precision.numerics`, of the workers, with `train_workers` as the world."""
        ...

    def shares(self, place: str) -> bool:
        """Whether all workers see a folder, or what is at a URL, as the driver does; then it becomes their cache.

        InputError, naming them, where only some of them see it, and where it is a URL that they do not see.
        """
        ...

    def share(self, value: Any) -> Any:
        """A reference to a value, which workers fetch from wherever it is nearest."""
        ...

    def map(
        self,
        make: Callable[[Any, WorkerContext], Callable[[Any], Any]],
        setup: Any,
        items: Sequence[Item],
        *,
        needs: Sequence[str] = (),
    ) -> Iterator[tuple[int, Any, str]]:
        """(position, result, progress in words) of every item, in the order in which they are finished.

        Every worker makes `make(setup, worker context)` once and calls it with the items that it takes. needs: packages
        that must be there on the workers.
        """
        ...

    def jobs(self, jobs: Sequence[Job], *, needs: Sequence[str] = ()) -> Iterator[tuple[int, EventKind, Any]]:
        """(position, kind, value) of what jobs emit and yield; they run side by side, one on each worker."""
        ...

    def group(self, job: Job, *, needs: Sequence[str] = ()) -> Iterator[tuple[EventKind, Any]]:
        """What one job emits and yields on the first of `train_workers` ranks, which are set up as by torchrun."""
        ...

    def services(
        self, jobs: Sequence[Job], gpus: float, stopped: Callable[[], bool]
    ) -> Iterator[tuple[int, EventKind, Any]]:
        """(position, kind, value) of what jobs emit and yield that go on until `stopped()`, all at the same time, each
        on a worker of its own with so many GPUs, in the place of other workers.

        One that is lost is begun again elsewhere; it yields None at that moment.
        """
        ...

    def resources(self) -> dict[str, Any]:
        """What there is: nodes, CPUs and GPUs of the cluster, and how many workers take part."""
        ...

    def record(self) -> dict[str, Any]:
        """For run.json: workers, with their nodes, logs and rates."""
        ...
