"""A program while it runs: what it writes is read, and what it uses is held against its limits."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass

from curate.verify.sandbox_child import OPEN_FILES
from curate.verify.work_folder import holds_too_much

__all__ = ["ProgramLimits", "ProgramResult", "Watch"]

_ERROR_BYTES = 4_096
_LOOK_EVERY = 0.1  # seconds, at what the kernel may not bound


@dataclass(frozen=True)
class ProgramLimits:
    """What a program may use: seconds of wall clock and processor, bytes of address space, output and of a file, bytes
    and number of all its files and folders, and threads."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 2**30
    output_bytes: int = 1 << 16
    file_bytes: int = 1 << 20
    folder_bytes: int = 1 << 26
    folder_files: int = 10_000
    threads: int = 256


@dataclass(frozen=True)
class ProgramResult:
    """What a program printed, or why there is nothing: exactly one of `output` and `failure` is None.

    layers: of the sandbox that were in place, see `curate.verify.sandbox_child`; empty where nothing was run.
    """

    output: str | None
    failure: str | None
    layers: tuple[str, ...] = ()


class Watch:
    """Reads what a program writes until it ends or breaks a limit."""

    def __init__(self, process: subprocess.Popen[bytes], told: int, folder: str, limits: ProgramLimits) -> None:
        self.process, self.told, self.folder, self.limits = process, told, folder, limits
        self.deadline = time.monotonic() + limits.wall_seconds
        self.look_at = time.monotonic() + _LOOK_EVERY
        self.output, self.errors, self.layers = bytearray(), bytearray(), b""

    def result(self) -> ProgramResult:
        failure = self._broken_limit()
        layers = tuple(self.layers.decode("ascii").split())
        if failure is None:
            try:
                status = self.process.wait(max(0.0, self.deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return ProgramResult(None, self._too_long, layers)
            failure = self._failure(status)
        if failure is not None:
            return ProgramResult(None, failure, layers)
        return ProgramResult(self.output.decode("utf-8", "replace"), None, layers)

    @property
    def _too_long(self) -> str:
        return f"took longer than {self.limits.wall_seconds:g} s"

    def _broken_limit(self) -> str | None:
        """Read to the end of all pipes; the limit that was broken before that."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        with selectors.DefaultSelector() as selector:
            for pipe in (out, err, self.told):
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                left = self.deadline - time.monotonic()
                ready = selector.select(max(0.0, min(left, _LOOK_EVERY)))
                if not ready and left <= 0:
                    return self._too_long
                for key, _ in ready:
                    more = os.read(key.fd, 1 << 16)
                    if not more:
                        selector.unregister(key.fd)
                    elif key.fd == err:
                        self.errors = (self.errors + more)[-_ERROR_BYTES:]
                    elif key.fd == self.told:
                        self.layers += more
                    else:
                        self.output += more
                if len(self.output) > self.limits.output_bytes:
                    return f"printed more than {self.limits.output_bytes} bytes"
                if (what := self._unbounded()) is not None:
                    return what
        return None

    def _unbounded(self) -> str | None:
        """What the kernel may not bound: threads of root's, and files but in a root of its own."""
        if time.monotonic() < self.look_at:
            return None
        self.look_at = time.monotonic() + _LOOK_EVERY
        if _threads(self.process.pid) > self.limits.threads:
            return f"started more than {self.limits.threads} threads"
        return None if b"root" in self.layers else holds_too_much(self.folder, self.limits)

    def _failure(self, status: int) -> str | None:
        last = (self.errors.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        if not self.layers:  # it says so before the program begins
            remedy = "; pass --weak-sandbox to run programs all the same" if status == OPEN_FILES else ""
            return f"not run: {last or f'exit status {status}'}{remedy}"
        if status < 0:
            return f"ended by {_signal_name(-status)}"
        return f"exit status {status}: {last}" if status else None


def _threads(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/task"))
    except OSError:  # it has ended
        return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time signals have no name
        return f"signal {number}"
