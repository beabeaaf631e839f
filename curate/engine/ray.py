"""The Ray engine: workers are actors of an existing cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from curate.engine.pool import Pool
from curate.engine.protocol import EventKind, Item, Job, WorkerContext
from curate.engine.work import map_items, run_group, run_jobs, run_services


class Ray(BaseModel):
    """Workers of a Ray cluster, for `Pipeline.run(data, engine=Ray(...))`; not part of recipes or fingerprints.

    Scoring workers live for the whole session; a group of training ranks replaces them and is removed again.

    It connects on first use, and disconnects at `close` or the end of a `with` block. A connection that the
    caller has made with `ray.init` is used, and stays open.

    address: "auto" = the cluster of this machine, or RAY_ADDRESS; HOST:PORT of its head, from one of its nodes; or
        ray://HOST:PORT, from outside.
    workers: that tokenize, score, compare texts, write and fine-tune; None = as many as the cluster has room for. Not
        in any key: scores are the same for any number.
    worker_gpus: of each; None = 1 where the cluster has any, else 0.
    worker_cpus: of each; the threads of one that computes on its CPUs, and thereby part of its numerics.
    train_workers: ranks that train a proxy together, each as large as a worker; sums differ with them, so they are
        part of the proxy's key.
    start_timeout: seconds in which the cluster must have room for a worker.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field(default="auto", description="Ray cluster: auto, HOST:PORT or ray://HOST:PORT")
    workers: int | None = Field(default=None, ge=1, description="workers (as many as the cluster has room for)")
    worker_gpus: float | None = Field(default=None, ge=0, description="GPUs of each worker (1 if there are any)")
    worker_cpus: int = Field(default=1, ge=1, description="CPUs of each worker, and its threads")
    train_workers: int = Field(default=1, ge=1, description="ranks that train a proxy together")
    start_timeout: float = Field(default=300.0, gt=0)
    device: str | None = None
    _pool: Pool | None = PrivateAttr(default=None)
    _note: Callable[[str], None] | None = PrivateAttr(default=None)

    @property
    def pool(self) -> Pool:
        """The workers; connects at the first call."""
        if self._pool is None:
            self._pool = Pool(
                **{name: getattr(self, name) for name in type(self).model_fields},
                note=_unheard if self._note is None else self._note,
            )
        return self._pool

    def __enter__(self) -> Ray:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and the connection if it was made here."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    # -- the protocol of engines, see `curate.engine.protocol.Engine` --------------------------------------------------

    def notify(self, note: Callable[[str], None]) -> None:
        self._note = note
        if self._pool is not None:
            self._pool.note = note

    def numerics(self, precision: Any) -> dict[str, Any]:
        return self.pool.numerics(precision)

    def shares(self, place: str) -> bool:
        return self.pool.shares(place)

    def share(self, value: Any) -> Any:
        return self.pool.share(value)

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
        return map_items(self.pool, make, setup, items, stage, needs, window)

    def jobs(self, jobs: Sequence[Job], *, needs: Sequence[str] = ()) -> Iterator[tuple[int, EventKind, Any]]:
        return run_jobs(self.pool, jobs, needs)

    def group(self, job: Job, *, needs: Sequence[str] = ()) -> Iterator[tuple[EventKind, Any]]:
        return run_group(self.pool, job, needs)

    def services(
        self, jobs: Sequence[Job], gpus: float, stopped: Callable[[], bool]
    ) -> Iterator[tuple[int, EventKind, Any]]:
        return run_services(self.pool, jobs, gpus, stopped)

    def resources(self) -> dict[str, Any]:
        return self.pool.resources()

    def record(self) -> dict[str, Any]:
        return {} if self._pool is None else self._pool.record()


def _unheard(text: str) -> None:
    """Ignore messages about workers while no observer is set."""
