"""Who sees to it that servers are there while requests are under way: others' servers, or one of our own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from curate.errors import ExternalError
from curate.generators.client import Client
from curate.generators.endpoints import Endpoint
from curate.generators.server_process import ServerProcess, free_port

__all__ = ["keep_servers", "run_own_server"]

LOOK_EVERY = 0.5  # seconds between two looks at a server that is down
_WATCH_EVERY = 0.1  # seconds between two looks at a process of our own
_TELL_EVERY = 30.0
_REMEDY = "mend that and run the same command again"


async def keep_servers(client: Client, outage_timeout: float) -> None:
    """Take servers back that are there again; never returns.

    ExternalError if none is there at first, or none for `outage_timeout` seconds, InputError from `Client.probe`.
    """
    endpoints = client.endpoints
    first = True
    while True:
        down = [endpoint for endpoint in endpoints.all if endpoint.served is None]
        for endpoint, served in zip(down, await asyncio.gather(*map(client.probe, down)), strict=True):
            if served:
                endpoints.rose(endpoint, served)
        urls = ", ".join(endpoint.url for endpoint in endpoints.all)
        if first and len(down) == len(endpoints.all) and not any(endpoint.served for endpoint in endpoints.all):
            raise ExternalError(f"no server answers at {urls}; start it, or leave url out to have one started")
        first = False
        if endpoints.down_since is not None and time.monotonic() - endpoints.down_since > outage_timeout:
            raise ExternalError(
                f"no server has answered at {urls} for {outage_timeout:g} s; start it and run the same command again"
            )
        await asyncio.sleep(LOOK_EVERY)


async def run_own_server(
    client: Client,
    command: Sequence[str],
    environment: Mapping[str, str],
    start_timeout: float,
    restarts: int,
    note: Callable[[str], None],
) -> None:
    """Start the server, start it again where it dies, and end it when this is cancelled; never returns.

    ExternalError if it does not become ready, or dies more than `restarts` times.
    """
    (endpoint,) = client.endpoints.all
    for start in range(restarts + 1):
        port = free_port()
        endpoint.url = f"http://127.0.0.1:{port}"
        process = ServerProcess([*command, "--host", "127.0.0.1", "--port", str(port)], environment)
        keep_log = False
        try:
            note(f"{'starting' if start == 0 else 'starting again'}: {command[0]}, log {process.log}")
            keep_log = True
            await _until_ready(client, endpoint, process, start_timeout, note)
            await _until_dead(client, endpoint, process)
            client.endpoints.fell(endpoint)
            if start == restarts:
                raise ExternalError(f"{_death(process, f'died {restarts + 1} times')}; {_REMEDY}")
            note(_death(process, "died"))
        except asyncio.CancelledError:
            keep_log = False
            raise
        finally:
            process.close(keep_log=keep_log)


async def _until_ready(
    client: Client, endpoint: Endpoint, process: ServerProcess, start_timeout: float, note: Callable[[str], None]
) -> None:
    started = told = time.monotonic()
    while True:
        served = await client.probe(endpoint)
        now = time.monotonic()
        if served:
            note(f"server ready after {now - started:.0f} s")
            client.endpoints.rose(endpoint, served)
            return
        if process.status() is not None:
            raise ExternalError(f"{_death(process, 'did not start')}; {_REMEDY}")
        if now - started > start_timeout:
            raise ExternalError(
                f"the server was not ready after {start_timeout:g} s ({process.last_words()}; log {process.log}); "
                "raise start_timeout or mend what holds it up"
            )
        if now - told >= _TELL_EVERY:
            told = now
            note(f"waiting for the server, {now - started:.0f} s")
        await asyncio.sleep(_WATCH_EVERY if now - started < 5 else 0.5)


async def _until_dead(client: Client, endpoint: Endpoint, process: ServerProcess) -> None:
    while process.status() is None:
        if endpoint.served is None and (served := await client.probe(endpoint)):
            client.endpoints.rose(endpoint, served)  # a connection failed, but it was not the server
        await asyncio.sleep(_WATCH_EVERY)


def _death(process: ServerProcess, event: str) -> str:
    return f"the server {event} (status {process.status()}): {process.last_words()}; log {process.log}"
