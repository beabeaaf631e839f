"""Worker processes for comparisons that need algebra, isolated because they may hang, run out of memory or crash."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curate.errors import ExternalError, InputError
from curate.verify.verdict import Verdict

# Address space of a worker's child process.
MEMORY_BYTES = 2 * 2**30
# Seconds in which a new worker must load math-verify, on a busy machine.
_START_SECONDS = 120.0
# The child's own alarm ends it on time; one that does not react is killed from here, this many seconds later.
_GRACE_SECONDS = 2.0


def algebra_is_here() -> bool:
    """Whether math-verify, which compares expressions, is installed."""
    return find_spec("math_verify") is not None


class Worker:
    """One worker process, started on first use."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory = memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._asked = 0

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        return None if self._process is None else self._process.pid

    def compare(self, candidate: str, reference: str, *, ordered: bool, seconds: float) -> Verdict:
        """Verdict on two answers; undecided if it takes longer than `seconds`, or the process crashes.

        InputError if math-verify is not installed; ExternalError if no worker can be started.
        """
        with self._lock:
            process = self._running()
            self._asked += 1
            request = {"candidate": candidate, "reference": reference, "ordered": ordered, "seconds": seconds}
            line = json.dumps({"id": self._asked, **request}).encode() + b"\n"
            try:
                self._skip_old(process)
                assert process.stdin is not None
                os.write(process.stdin.fileno(), line)
                reply = self._reply(process, time.monotonic() + seconds + _GRACE_SECONDS)
            except OSError:
                reply = None
            except BaseException:
                # An interrupted exchange leaves its reply behind, which the next one must not read.
                self._stop()
                raise
            if reply is None:
                self._stop()
            return Verdict(reply["verdict"]) if reply is not None and "verdict" in reply else Verdict.undecided

    def close(self) -> None:
        """End the process; the next comparison starts a new one."""
        with self._lock:
            self._stop()

    def abandon(self) -> None:
        """Forget a process that belongs to the parent of this one, without ending it."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        if not algebra_is_here():
            raise InputError("comparing expressions needs math-verify; run: pip install 'curate-lm[math]'")
        # The environment holds only the path of the code: a worker needs no keys.
        environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-P", "-m", "curate.verify.math_verify_worker", str(self._memory)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise ExternalError(f"the process that compares expressions did not start: {error}") from error
        self._unread = b""
        ready = self._message(self._process, time.monotonic() + _START_SECONDS)
        if ready is None or "ready" not in ready:
            self._stop()
            raise ExternalError(
                "the process that compares expressions did not start; try `python -c 'import math_verify'`"
            )
        return self._process

    def _reply(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any] | None:
        """The reply to the last request: its verdict, or that the child died; None if none came."""
        while (message := self._message(process, deadline)) is not None:
            if message.get("id", self._asked) == self._asked:
                return message
        return None

    def _skip_old(self, process: subprocess.Popen[bytes]) -> None:
        """Discard messages about children that died between two requests."""
        while self._message(process, 0.0) is not None:
            pass

    def _message(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any] | None:
        """The next message, or None if none comes by then (monotonic seconds), or the process has ended."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                more = os.read(process.stdout.fileno(), 1 << 16)
                if not more:
                    return None
                self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


_WORKERS: list[Worker] = []
_LOCK = threading.Lock()


def workers(count: int) -> list[Worker]:
    """The first `count` workers of this process; does not start them.

    Each grading process has its own workers: started with a fresh interpreter when first needed, reused,
    and closed at exit. Any thread may use them. After a fork, the child starts its own.
    """
    with _LOCK:
        while len(_WORKERS) < count:
            _WORKERS.append(Worker())
        return _WORKERS[:count]


def close_workers() -> None:
    """End the worker processes; they start again when needed."""
    with _LOCK:
        for worker in _WORKERS:
            worker.close()


def _after_fork() -> None:
    global _LOCK
    _LOCK = threading.Lock()
    for worker in _WORKERS:
        worker.abandon()
    _WORKERS.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_workers)
