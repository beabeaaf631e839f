"""vLLM servers on the workers of an engine: started there, reported to the client, and replaced when they die."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from curate.engine.host import free_port
from curate.engine.protocol import Engine, Job, WorkerContext
from curate.errors import ExternalError
from curate.generators.openai_client import Client
from curate.generators.server import ServerProcess, monitor_servers

_LOOK_EVERY = 0.1  # seconds between two checks of a server process


@dataclass(frozen=True)
class Replica:
    """A server to start. command: builds the command on the worker, except its address; key: what it asks clients for;
    hidden: an environment variable that it does not get. The others are those of `VLLMServer`."""

    number: int
    command: Callable[[], Sequence[str]]
    key: str
    hidden: str
    start_timeout: float
    restarts: int


async def run_replicas(client: Client, engine: Engine, replicas: Sequence[Replica], gpus: float) -> None:
    """Run the replicas on an engine while the client uses those that are up; cancelling this ends them.

    gpus: per replica. Never returns. Raises what the engine raises, and ExternalError if one cannot be started, dies
    too often, or none is ready in time.
    """
    loop, stopped = asyncio.get_running_loop(), threading.Event()
    urls: dict[int, str] = {}
    timeout = replicas[0].start_timeout

    def heard(position: int, url: str | None) -> None:
        """Runs in the event loop: update the client's servers."""
        if url is None:
            urls.pop(position, None)
        else:
            urls[position] = url
            client.note(f"server {position} is ready at {url}")
        client.endpoints.keep(list(urls.values()))

    def follow() -> None:
        """Runs in a thread of the loop's executor: the engine's events, passed on to the event loop."""
        jobs = [Job(f"server {replica.number}", serve_replica, partial(_itself, replica)) for replica in replicas]
        for position, kind, value in engine.services(jobs, gpus, stopped.is_set):
            if kind == "value":
                loop.call_soon_threadsafe(heard, position, value)
            elif kind == "note":
                loop.call_soon_threadsafe(client.note, value)

    client.note(f"starting {len(replicas)} servers on the cluster")
    following = loop.run_in_executor(None, follow)
    watching = asyncio.ensure_future(monitor_servers(client, timeout, first_wait=timeout))
    try:
        done, _ = await asyncio.wait([following, watching], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        watching.cancel()
        stopped.set()
        await asyncio.wait([following])  # until all have ended


def serve_replica(replica: Replica, worker: WorkerContext) -> Iterator[str | None]:
    """Runs on a worker. Yields the server's address whenever it is ready, None when it died and is restarting."""
    name = f"server {replica.number} on {socket.gethostname()}"
    environment = {name: value for name, value in os.environ.items() if name != replica.hidden}
    for start in range(replica.restarts + 1):
        port = free_port(worker.address)
        command = [*replica.command(), "--host", worker.address, "--port", str(port)]
        process, keep_log = ServerProcess(command, {**environment, "VLLM_API_KEY": replica.key}), True
        began, ready = time.monotonic(), False
        try:
            while process.status() is None:
                if worker.stopped():
                    keep_log = False
                    return
                if not ready and _listens(worker.address, port):
                    ready = True
                    yield _url(worker.address, port)
                if not ready and time.monotonic() - began > replica.start_timeout:
                    raise ExternalError(
                        f"{name} was not ready after {replica.start_timeout:g} s ({process.last_words()}; log "
                        f"{process.log}); raise start_timeout or fix what holds it up"
                    )
                time.sleep(_LOOK_EVERY)
            event = "did not start" if not ready else f"died {start + 1} times" if start == replica.restarts else "died"
            words = f"{name} {event} (status {process.status()}): {process.last_words()}; log {process.log}"
            if not ready or start == replica.restarts:
                raise ExternalError(f"{words}; fix that and rerun the same command")
        finally:
            process.close(keep_log=keep_log)
        worker.emit("note", words)
        yield None


def _itself(replica: Replica) -> Replica:
    return replica


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
