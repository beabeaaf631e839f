"""The worker process of an engine: reports its versions, and runs items and jobs."""

from __future__ import annotations

import functools
import os
import platform
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from curate.devices.precision import numerics
from curate.engine.packages import Files, install, package_digest
from curate.engine.protocol import WorkerContext
from curate.errors import CurateError, InputError
from curate.storage.hashing import file_digest
from curate.storage.places import is_url
from curate.storage.records import own_version, versions
from curate.storage.remote import remote
from curate.storage.temporary import new_folder, temporary_folder

_EVENTS = 64  # maximum number in one answer
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")
COMPARED = ("python", "curate", "source files of curate", *_PACKAGES)  # must be equal on every machine


@functools.cache
def own_versions() -> dict[str, str]:
    """Name -> version of everything in `COMPARED`; for packages with builds per device, the release."""
    root = Path(__file__).parents[2]
    sources = [path for name in ("curate", "scorers", "augmenters") for path in (root / name).rglob("*.py")]
    digest = file_digest([(path, path.relative_to(root).as_posix()) for path in sorted(sources)])
    releases = {name: version.partition("+")[0] for name, version in versions(_PACKAGES).items()}
    own = {"curate": own_version(), "source files of curate": digest[:12]}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **own, **releases}


class Host:
    """One worker. Its methods run one at a time, in the actor's main thread; a job runs in a thread beside them.

    threads: of torch on a CPU. fetch: resolves references to shared values. locate: returns this machine's address for
    the others, which may not be able to resolve its name.
    """

    def __init__(
        self,
        number: int,
        device: str | None,
        threads: int,
        fetch: Callable[[Any], Any],
        locate: Callable[[], str] = socket.gethostname,
    ) -> None:
        import torch

        torch.set_num_threads(threads)  # before any work: sums depend on it
        self.number, self.device, self.threads, self.fetch = number, device, threads, fetch
        self.locate = locate
        self.cache: str | None = None
        self._own_cache: str | None = None
        self._task: Callable[[Any], Any] | None = None
        self._failure: BaseException | None = None
        self._events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._job: threading.Thread | None = None
        self._stopping = threading.Event()

    def report(self) -> dict[str, Any]:
        """Where this worker runs, and its versions."""
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "log": _logs(),
            "versions": own_versions(),
        }

    def numerics(self, precision: Any) -> dict[str, Any]:
        """See `curate.devices.precision.numerics`; raises if the device cannot be used."""
        import torch

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"worker {self.number} on {socket.gethostname()} cannot use the device {device!r} ({reason}); name "
                "one that all workers have with --device, and give them GPUs with --worker-gpus"
            ) from error
        return numerics(precision, torch.device(device))

    def packages(self, names: Sequence[str]) -> dict[str, str | None]:
        """`curate.engine.packages.package_digest` of packages here."""
        return {name: package_digest(name) for name in names}

    def install(self, packages: dict[str, Files], names: Sequence[str]) -> str | None:
        """See `curate.engine.packages.install`."""
        return install(packages, names)

    def reads(self, place: str, name: str, content: str) -> bool:
        """Whether a file exists here with this content: the probe for shared storage."""
        try:
            if not is_url(place):
                return (Path(place) / name).read_text() == content
            with temporary_folder("curate-probe-") as folder:
                return remote(place).join(name).fetch(folder / name) and (folder / name).read_text() == content
        except (OSError, CurateError):
            return False

    def use_cache(self, place: str | None) -> None:
        """Use the driver's cache, a folder or URL; None = a temporary one."""
        self.cache = place

    def address(self) -> tuple[str, int]:
        """This machine's address and a free port, where other ranks can meet."""
        host = self.locate()
        return host, free_port(host)

    def join(self, variables: dict[str, str]) -> None:
        """Set environment variables, such as those by which ranks find each other."""
        os.environ.update(variables)

    def make(self, make: Callable[[Any, WorkerContext], Callable[[Any], Any]], setup: Any) -> None:
        """Create the object that `call` calls. Its exceptions are raised by `call`."""
        self._task = self._failure = None
        try:
            self._task = make(setup, self._context())
        except BaseException as error:
            self._failure = error

    def call(self, item: Any, made: None = None) -> tuple[Any, float]:
        """The result of one item, and the seconds it took. made: result of `make`, whose failure is then this one's."""
        if self._failure is not None:
            raise self._failure
        assert self._task is not None
        began = time.monotonic()
        result = self._task(item)
        return result, time.monotonic() - began

    def start(self, run: Callable[[Any, WorkerContext], Any], payload: Any) -> None:
        """Start a job in a thread; `poll` reports its events."""
        self._events = queue.Queue()
        self._stopping.clear()
        self._job = threading.Thread(target=self._run, args=(run, payload, self._events), daemon=True)
        self._job.start()

    def stop(self, seconds: float) -> None:
        """Ask the job to end; returns when it has, or after `seconds`."""
        self._stopping.set()
        if self._job is not None:
            self._job.join(seconds)

    def poll(self, wait: float) -> list[tuple[str, Any]]:
        """Events since the last call, at most a few; waits up to `wait` seconds for one. "end" is the last of a job."""
        events = []
        try:
            events.append(self._events.get(timeout=wait))
            while len(events) < _EVENTS and events[-1][0] != "value":  # values may be large: one at a time
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        return events

    def _run(
        self, run: Callable[[Any, WorkerContext], Any], payload: Any, events: queue.Queue[tuple[str, Any]]
    ) -> None:
        """Runs in the job's own thread: put its values, its end or its error into `events`."""
        import torch

        torch.set_num_threads(self.threads)  # thread-local setting
        try:
            for value in run(payload, self._context(lambda kind, value: events.put((kind, value)))):
                events.put(("value", value))
            events.put(("end", None))
        except BaseException as error:  # an exit or interrupt ends the job too, and must be reported
            events.put(("error", error))

    def _context(self, emit: Callable[[Any, Any], None] = lambda kind, value: None) -> WorkerContext:
        """The context for code on this worker. emit: sends events of a job."""
        if self.cache is None and self._own_cache is None:
            self._own_cache = new_folder("curate-worker-")
        folder = self.cache or self._own_cache
        assert folder is not None
        shared, stopped = self.cache is not None, self._stopping.is_set
        return WorkerContext(self.number, self.device, folder, shared, self.fetch, emit, self.locate(), stopped)


def free_port(host: str) -> int:
    """A port of this machine that is free at the address."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return int(probe.getsockname()[1])


def _logs() -> str:
    """The file that this process's stderr goes to, if it is one."""
    try:
        return os.readlink("/proc/self/fd/2")
    except OSError:
        return ""
