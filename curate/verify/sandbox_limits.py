"""Limits of a sandboxed program: enforce them while it runs, and measure and remove its folder."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass

from curate.verify.sandbox_child import OPEN_FILES

_ERROR_BYTES = 4_096
_LOOK_EVERY = 0.1  # seconds between checks of limits that the kernel may not enforce


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
    """What a program printed, or why there is no output: exactly one of `output` and `failure` is None.

    layers: active layers of the sandbox, see `curate.verify.sandbox_child`; empty if nothing was run.
    """

    output: str | None
    failure: str | None
    layers: tuple[str, ...] = ()


class Watch:
    """Reads the output of a program until it ends or breaks a limit. report: descriptor on which the sandbox names its
    layers.
    """

    def __init__(self, process: subprocess.Popen[bytes], report: int, folder: str, limits: ProgramLimits) -> None:
        self.process, self.report, self.folder, self.limits = process, report, folder, limits
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
        """Read all pipes to their end; returns the limit that was broken before that."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        with selectors.DefaultSelector() as selector:
            for pipe in (out, err, self.report):
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
                    elif key.fd == self.report:
                        self.layers += more
                    else:
                        self.output += more
                if len(self.output) > self.limits.output_bytes:
                    return f"printed more than {self.limits.output_bytes} bytes"
                if (what := self._unbounded()) is not None:
                    return what
        return None

    def _unbounded(self) -> str | None:
        """Check what the kernel may not limit: threads of root, and files unless the program has its own root."""
        if time.monotonic() < self.look_at:
            return None
        self.look_at = time.monotonic() + _LOOK_EVERY
        if _threads(self.process.pid) > self.limits.threads:
            return f"started more than {self.limits.threads} threads"
        return None if b"root" in self.layers else _too_much_in(self.folder, self.limits)

    def _failure(self, status: int) -> str | None:
        last = (self.errors.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        if not self.layers:  # it reports them before the program starts
            remedy = "; pass --weak-sandbox to run programs all the same" if status == OPEN_FILES else ""
            return f"not run: {last or f'exit status {status}'}{remedy}"
        if status < 0:
            return f"ended by {_signal_name(-status)}"
        return f"exit status {status}: {last}" if status else None


def _threads(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/task"))
    except OSError:  # the process has ended
        return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


# -- the folder of a program ------------------------------------------------------------------------------------------


def _too_much_in(folder: str, limits: ProgramLimits) -> str | None:
    """The limit that the files in a folder break, if any; stops counting at the limit.

    Paths that cannot be inspected (without permission, or nested too deeply for a path name) break one too.
    """
    files = size = 0
    pending = [folder]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > limits.folder_files:
                        return f"made more than {limits.folder_files} files"
                    with suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            return f"made a folder that cannot be looked into ({error.strerror})"
        if size > limits.folder_bytes:
            return f"wrote more than {limits.folder_bytes} bytes of files"
    return None


def remove_folder(folder: str) -> None:
    """Remove a folder and everything in it, however deeply nested and whatever its modes; never raises.

    Files owned by others or marked as immutable stay.
    """
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(opened)
        finally:
            os.close(opened)
        os.rmdir(folder)


def _empty(folder: int) -> None:
    """Empty an open folder: remove the files of each folder in it, and move subfolders up next to it.

    This needs no recursion, no path longer than a name, and at most two open folders.
    """
    stuck: set[str] = set()
    prefix, moved = os.urandom(8).hex(), 0
    while names := [name for name in os.listdir(folder) if name not in stuck]:
        for name in names:
            try:
                if not _unlinked(name, folder):
                    moved = _dissolve(name, folder, prefix, moved)
            except OSError:
                stuck.add(name)


def _unlinked(name: str, folder: int) -> bool:
    """Whether `name` was not a folder, and is removed."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return False
    except FileNotFoundError:
        pass
    return True


def _dissolve(name: str, folder: int, prefix: str, moved: int) -> int:
    """Remove the folder `name` in `folder` after moving its subfolders to `folder`; returns the number moved so far."""
    os.chmod(name, 0o700, dir_fd=folder)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        for entry in os.listdir(inner):
            if not _unlinked(entry, inner):
                os.chmod(entry, 0o700, dir_fd=inner)  # moving a folder requires write permission on it
                os.rename(entry, f"{prefix}-{moved}", src_dir_fd=inner, dst_dir_fd=folder)
                moved += 1
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
    return moved
