"""Who sees to it that servers are there while requests are under way: others' servers, or one of our own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from curate.errors import ExternalError
from curate.generators.failures import HOPELESS
from curate.generators.load_balancing import Endpoint
from curate.generators.openai_client import Client
from curate.generators.server import ServerProcess, free_port

__all__ = ["keep_servers", "run_own_server", "tell_silence"]

LOOK_EVERY = 0.5  # seconds between two looks at a server that is down
FIRST_WAIT = 90.0  # seconds for a server that somebody is just starting
FIRST_SILENCE = 60.0  # seconds without any answer that need words; then twice as many, and so on
_WATCH_EVERY = 0.1  # seconds between two looks at a process of our own
_TELL_EVERY = 30.0
_REMEDY = "fix that and run the same command again"


async def keep_servers(client: Client, outage_timeout: float, note: Callable[[str], None]) -> None:
    """Take servers back that are there again; never returns.

    ExternalError if none comes in time: at first within `FIRST_WAIT`, and at once where waiting changes nothing;
    later within `outage_timeout` seconds. InputError from `Client.probe`.
    """
    endpoints = client.endpoints
    endpoints.down_since = time.monotonic()
    first, told, patience = True, False, min(FIRST_WAIT, outage_timeout)
    while True:
        if not any(endpoint.served for endpoint in endpoints.all):
            for endpoint in endpoints.all:
                endpoint.hung = False
        down = [endpoint for endpoint in endpoints.all if endpoint.served is None and not endpoint.hung]
        for endpoint, served in zip(down, await asyncio.gather(*map(client.probe, down)), strict=True):
            if served:
                endpoints.rose(endpoint, served)
        if endpoints.down_since is None:
            first, told, patience = False, False, outage_timeout
        else:
            faults = ", ".join(f"{endpoint.url} ({endpoint.fault})" for endpoint in endpoints.all)
            hopeless = first and all(endpoint.fault in HOPELESS for endpoint in endpoints.all)
            if hopeless or time.monotonic() - endpoints.down_since > patience:
                raise ExternalError(_gone(faults, first, patience))
            if not told:
                told = True
                note(f"no server answers at {faults}; waiting up to {patience:g} s for it")
        await asyncio.sleep(LOOK_EVERY)


def _gone(faults: str, first: bool, patience: float) -> str:
    if first:
        remedy = "start it, or leave url out to have one started, and run the same command again"
        return f"no server answers at {faults}; {remedy}"
    return f"no server has answered for {patience:g} s at {faults}; start it and run the same command again"


async def tell_silence(client: Client, note: Callable[[str], None]) -> None:
    """Say that servers are waited for, as long as none of them answers anything; never returns."""
    limit = FIRST_SILENCE
    while True:
        await asyncio.sleep(FIRST_SILENCE / 20)
        silence = time.monotonic() - client.heard_at
        if silence < FIRST_SILENCE or not client.endpoints.in_flight:
            limit = FIRST_SILENCE
        elif silence >= limit:
            limit *= 2
            under_way = f"{client.endpoints.in_flight:,} requests under way"
            note(f"waiting: no answer for {silence:.0f} s, {under_way}, given up after {client.patience:g} s each")


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
        endpoint.log, keep_log = str(process.log), False
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
            keep_log = client.failed
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
                "raise start_timeout or fix what holds it up"
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
