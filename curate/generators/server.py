"""Server processes: health checks of remote servers, start and restart of a local one."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from curate.console.formatting import printable_line
from curate.errors import ExternalError, InputError
from curate.generators.load_balancing import Endpoint, read_urls
from curate.generators.openai_client import Client
from curate.generators.responses import HOPELESS
from curate.storage.atomic import remove
from curate.storage.temporary import new_folder

_WATCHDOG = Path(__file__).with_name("watchdog.py")
_GRACE = 15.0  # seconds a server may take to exit by itself
_TAIL = 1 << 16  # bytes at the end of the log that are searched for errors
# The error of vLLM 0.32 on a CPU when the prefill of a request with a seed is chunked.
_SEEDED_IN_PIECES = "CPU Generator does not use offset"
# vLLM's messages: memory held by other processes, memory its model leaves for the cache, and a failed allocation.
_NO_ROOM = re.compile(
    r"out of memory|No available memory for the cache blocks|Free memory on device.*is less than desired|"
    r"larger than the available KV cache memory|number of tokens that can be stored in KV cache",
    re.I,
)
_ERROR = re.compile(r"\b[\w.]*(?:Error|Exception)\b:?\s")
READ_EVERY = 2.0  # seconds between two reads of the address file
LOOK_EVERY = 0.5  # seconds between two probes of a server that is down
FIRST_WAIT = 90.0  # seconds to wait for a server that is starting
FIRST_SILENCE = 60.0  # seconds without any answer before they are reported; then twice as many, and so on
_WATCH_EVERY = 0.1  # seconds between two checks of a local server
_TELL_EVERY = 30.0
_REMEDY = "fix that and rerun the same command"
_KEPT = "kept"  # marks the folder of a log that an error names, and that must outlive its process


def find_command(command: str | tuple[str, ...]) -> list[str]:
    """The command with the full path of its executable; InputError if it is not found."""
    words = [command] if isinstance(command, str) else list(command)
    executable = shutil.which(os.path.expanduser(words[0])) if words else None
    if executable is None:
        raise InputError(
            f"no command {' '.join(words) or 'vllm'!r}: install vLLM into a separate environment (python -m venv "
            "vllm-env && vllm-env/bin/pip install vllm) and add --vllm vllm-env/bin/vllm, or name a server with --url; "
            "--set 'augmenters.0.generator={use: Transformers, model: MODEL}' generates in this process, slowly"
        )
    return [executable, *words[1:]]


def _free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """One run of the command. Its output goes to a log, which `close` removes unless it may be needed.

    ExternalError if there is no disk space for the log, or no process can be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            self.folder = Path(new_folder("curate-server-", clear=_remove_unless_kept))
        except OSError as error:
            raise ExternalError(
                f"the log of a server needs a temporary folder ({error}); set TMPDIR to one with room"
            ) from error
        self.log = self.folder / "server.log"
        try:
            self.process = self._begin(command, environment)
        except BaseException as error:
            remove(self.folder)
            if isinstance(error, OSError):
                raise ExternalError(f"a server cannot be started ({error}); rerun the same command") from error
            raise

    def _begin(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        watchdog = [sys.executable, "-I", "-S", str(_WATCHDOG), str(os.getpid()), str(_GRACE), *command]
        # private whatever the umask: a server may log its prompts
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            return subprocess.Popen(
                watchdog,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C at the terminal is handled by this process
            )

    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self.process.poll()

    def last_words(self) -> str:
        """Why it exited, as far as its log shows, on one line, with the remedy if it is known."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL))
            lines = [printable_line(line, 240) for line in file.read().decode(errors="replace").splitlines()]
        lines = [line for line in lines if line]
        errors = list(dict.fromkeys(line for line in lines if _ERROR.search(line)))
        shown = errors if len(errors) <= 3 else [errors[0], *errors[-2:]]
        words = " | ".join(shown or lines[-4:]) or "it printed nothing"
        if any(_SEEDED_IN_PIECES in line for line in lines):
            words += (
                " - vLLM on a CPU fails where it cuts the prefill of a request with a seed in pieces: add the "
                "arguments --no-enable-chunked-prefill --max-num-batched-tokens N, with N at least max-model-len"
            )
        if any(_NO_ROOM.search(line) for line in lines):
            words += (
                " - the GPU has too little memory for this model: use a smaller one, add the arguments "
                "--max-model-len 4096, or set the share that it may take with --gpu-memory-utilization"
            )
        return words

    def close(self, *, keep_log: bool = False) -> None:
        """Terminate it and all processes it started; returns when they have exited."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(_GRACE + 10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if keep_log:
            with suppress(OSError):
                (self.folder / _KEPT).touch()
        else:
            remove(self.folder)


def _remove_unless_kept(folder: str) -> None:
    if not os.path.lexists(os.path.join(folder, _KEPT)):
        remove(Path(folder))


async def monitor_servers(client: Client, outage_timeout: float, first_wait: float | None = None) -> None:
    """Probe servers that are down and mark those that answer as up; never returns. Runs in the event loop.

    ExternalError if none is up in time: at first within `first_wait` seconds (None = `FIRST_WAIT`), immediately if
    waiting changes nothing; later within `outage_timeout` seconds. InputError from `Client.probe`.
    """
    endpoints = client.endpoints
    endpoints.down_since = time.monotonic()
    first, warned, patience = True, False, min(FIRST_WAIT if first_wait is None else first_wait, outage_timeout)
    while True:
        if not any(endpoint.served for endpoint in endpoints.all):
            for endpoint in endpoints.all:
                endpoint.hung = False
        down = [endpoint for endpoint in endpoints.all if endpoint.served is None and not endpoint.hung]
        for endpoint, served in zip(down, await asyncio.gather(*map(client.probe, down)), strict=True):
            if served:
                endpoints.mark_up(endpoint, served)
        if endpoints.down_since is None:
            first, warned, patience = False, False, outage_timeout
        else:
            faults = ", ".join(f"{endpoint.url} ({endpoint.fault})" for endpoint in endpoints.all)
            hopeless = first and bool(endpoints.all) and all(endpoint.fault in HOPELESS for endpoint in endpoints.all)
            if hopeless or time.monotonic() - endpoints.down_since > patience:
                raise ExternalError(_gone(faults, first, patience))
            if not warned and faults:
                warned = True
                client.note(f"no server answers at {faults}; waiting up to {patience:g} s for it")
        await asyncio.sleep(LOOK_EVERY)


def _gone(faults: str, first: bool, patience: float) -> str:
    if not faults:
        return (
            f"no server was there within {patience:g} s, not even an address of one; rerun the same command to resume"
        )
    if first:
        remedy = "start it, or leave --url out to have one started, and rerun the same command"
        return f"no server answers at {faults}; {remedy}"
    return f"no server has answered for {patience:g} s at {faults}; start it and rerun the same command"


async def follow_addresses(client: Client, path: str, check: Callable[[str], None], fixed: Sequence[str] = ()) -> None:
    """Reread the addresses of servers while requests are in flight; never returns. Runs in the event loop.

    fixed: addresses that are always used. check: raises InputError for an address that must not be used. A file
    that cannot be used is reported, and the addresses stay unchanged until it can be.
    """
    last_error = ""
    while True:
        await asyncio.sleep(READ_EVERY)
        try:
            urls = tuple(dict.fromkeys([*fixed, *read_urls(path)]))
            for url in urls:
                check(url)
        except InputError as error:
            if str(error) != last_error:
                last_error = str(error)
                client.note(f"{last_error}; the servers stay as they are")
            continue
        before = [endpoint.url for endpoint in client.endpoints.all]
        if set(urls) != set(before):
            client.endpoints.keep(urls)
            client.note(f"{len(urls)} servers in {path}: {', '.join(urls) or 'none, waiting for one'}")


async def report_silence(client: Client) -> None:
    """Report the waiting time while no server answers anything; never returns. Runs in the event loop."""
    limit = FIRST_SILENCE
    while True:
        await asyncio.sleep(FIRST_SILENCE / 20)
        silence = time.monotonic() - client.heard_at
        if silence < FIRST_SILENCE or not client.endpoints.in_flight:
            limit = FIRST_SILENCE
        elif silence >= limit:
            limit *= 2
            under_way = f"{client.endpoints.in_flight:,} requests under way"
            client.note(
                f"waiting: no answer for {silence:.0f} s, {under_way}, given up after {client.patience:g} s each"
            )


async def run_own_server(
    client: Client,
    command: Sequence[str],
    environment: Mapping[str, str],
    start_timeout: float,
    restarts: int,
) -> None:
    """Start the server, restart it when it dies, and terminate it when this is cancelled; never returns.

    ExternalError if it does not become ready, or dies more than `restarts` times.
    """
    (endpoint,) = client.endpoints.all
    for start in range(restarts + 1):
        port = _free_port()
        endpoint.url = f"http://127.0.0.1:{port}"
        process = ServerProcess([*command, "--host", "127.0.0.1", "--port", str(port)], environment)
        endpoint.log, keep_log = str(process.log), False
        try:
            client.note(f"{'starting' if start == 0 else 'starting again'}: {command[0]}, log {process.log}")
            keep_log = True
            await _until_ready(client, endpoint, process, start_timeout)
            await _until_dead(client, endpoint, process)
            client.endpoints.mark_down(endpoint)
            if start == restarts:
                raise ExternalError(f"{_death(process, f'died {restarts + 1} times')}; {_REMEDY}")
            client.note(_death(process, "died"))
        except asyncio.CancelledError:
            keep_log = client.failed
            raise
        finally:
            process.close(keep_log=keep_log)


async def _until_ready(client: Client, endpoint: Endpoint, process: ServerProcess, start_timeout: float) -> None:
    started = reported_at = time.monotonic()
    while True:
        served = await client.probe(endpoint)
        now = time.monotonic()
        if served:
            client.note(f"server ready after {now - started:.0f} s")
            client.endpoints.mark_up(endpoint, served)
            return
        if process.status() is not None:
            raise ExternalError(f"{_death(process, 'did not start')}; {_REMEDY}")
        if now - started > start_timeout:
            raise ExternalError(
                f"the server was not ready after {start_timeout:g} s ({process.last_words()}; log {process.log}); "
                "raise start_timeout or fix what holds it up"
            )
        if now - reported_at >= _TELL_EVERY:
            reported_at = now
            client.note(f"waiting for the server, {now - started:.0f} s")
        await asyncio.sleep(_WATCH_EVERY if now - started < 5 else 0.5)


async def _until_dead(client: Client, endpoint: Endpoint, process: ServerProcess) -> None:
    while process.status() is None:
        if endpoint.served is None and (served := await client.probe(endpoint)):
            client.endpoints.mark_up(endpoint, served)  # a connection failed, but the server was not the cause
        await asyncio.sleep(_WATCH_EVERY)


def _death(process: ServerProcess, event: str) -> str:
    return f"the server {event} (status {process.status()}): {process.last_words()}; log {process.log}"
