"""Python programs that a model wrote, run in a sandbox.

What is kept from a program: the network; other processes (it can start none, and signal none); its environment
(built anew: no keys) and standard input; files, of which it may write those of its own temporary folder, and read those
of the Python installation; time, memory, output, and size and number of files, which are limited. This takes Linux, and
is done in layers that hold without each other: resource limits; namespaces with a root of its own; no capabilities;
Landlock (kernel 5.13 or later); a system-call filter (x86-64 and ARM64). `sandbox_layers` tells which of them there are
here.

What is not: one layer that closes the network and one that closes the files are enough to run. Without the filter
(other processors), a program may start processes and open sockets of families that know no namespace, such as vsock,
and without Landlock's scopes also signal others. Where neither
Landlock nor a root of its own can be had, it could read and write what this user may, so nothing is run there except
within `weak_sandbox` (--weak-sandbox). A flaw of the kernel is no obstacle to a program that knows it: for an enemy's
code use a virtual machine.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from curate.errors import ExternalError, InputError
from curate.verify.jail import OPEN_FILES
from curate.verify.work_folder import holds_too_much, remove_folder

__all__ = [
    "ProgramLimits",
    "ProgramResult",
    "check_sandbox",
    "printed_answer",
    "program_in",
    "run_program",
    "sandbox_layers",
    "weak_sandbox",
]

_FENCE = re.compile(r"```[ \t]*(?:python3?|py)[ \t]*\r?\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
_CODE_START = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:import \w|from \w+ import |def \w+\(|[A-Za-z_]\w*\s*=[^=]|print\()")
_ERROR_BYTES = 4_096
_LOOK_EVERY = 0.1  # seconds, at the folder of a program where the kernel does not bound it
_GET_DUMPABLE, _SET_DUMPABLE = 3, 4


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

    layers: of the sandbox that were in place, see `curate.verify.jail`; empty where nothing was run.
    """

    output: str | None
    failure: str | None
    layers: tuple[str, ...] = ()


def program_in(completion: str) -> str | None:
    """The Python program that a completion is: its last ```python fence, or all of it if it looks like one."""
    fences = _FENCE.findall(completion)
    if fences:
        return str(fences[-1])
    return completion if _CODE_START.match(completion) and "print(" in completion else None


def printed_answer(program: str) -> str | None:
    """The last line that a program prints; None where it fails or prints nothing.

    Raises InputError where no program can be run.
    """
    result = run_program(program)
    if not result.layers:
        raise _refusal(result)
    printed = (result.output or "").strip()
    return printed.splitlines()[-1].strip() if printed else None


def check_sandbox() -> None:
    """Raise InputError, with what to do, where no program can be run."""
    result = run_program("")
    if not result.layers:
        raise _refusal(result)


def sandbox_layers() -> tuple[str, ...]:
    """The layers that a program is run in here (those of `curate.verify.jail.LAYERS`); none where none is run."""
    return _layers(_Weak.count > 0)


@functools.lru_cache(maxsize=2)
def _layers(_weak: bool) -> tuple[str, ...]:
    return run_program("").layers


def _refusal(result: ProgramResult) -> InputError:
    return InputError(f"programs cannot be run here ({result.failure}); leave out --run-programs")


class _Weak:
    """How many callers have said that files may be open to programs, and what PR_GET_DUMPABLE was before."""

    count = 0
    dumpable = 1
    lock = threading.Lock()


@contextmanager
def weak_sandbox() -> Iterator[None]:
    """Within it programs are run also where the kernel cannot keep the files of this user from them (--weak-sandbox).

    A program can then read and change what this user can, but for the memory of this process, in which keys may be.
    """
    with _Weak.lock:
        if _Weak.count == 0 and sys.platform == "linux":
            libc = ctypes.CDLL(None)
            _Weak.dumpable = libc.prctl(_GET_DUMPABLE, 0, 0, 0, 0)
            libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)  # else its environment and memory are files in /proc
        _Weak.count += 1
    try:
        yield
    finally:
        with _Weak.lock:
            _Weak.count -= 1
            if _Weak.count == 0 and sys.platform == "linux":
                ctypes.CDLL(None).prctl(_SET_DUMPABLE, _Weak.dumpable, 0, 0, 0)


def run_program(code: str, limits: ProgramLimits | None = None) -> ProgramResult:
    """Run `code` in a new folder that holds nothing else, and return what it printed; what it does raises nothing here.

    Without Linux, or where the kernel closes network or files in no way, nothing is run and `failure` says so. Raises
    ExternalError where this machine has no room or no process left.
    """
    return _run(code, limits or ProgramLimits())


def _run(code: str, limits: ProgramLimits, off: tuple[str, ...] = ()) -> ProgramResult:
    """off: layers of the sandbox that are left out, for its tests."""
    if sys.platform != "linux":
        return ProgramResult(None, f"programs run on Linux only: no sandbox is known for {sys.platform}")
    try:
        folder = tempfile.mkdtemp(prefix="curate-program-")
    except OSError as error:
        raise ExternalError(f"a program needs a temporary folder ({error}); set TMPDIR to one with room") from error
    try:
        return _run_in(folder, code, limits, off)
    except OSError as error:
        raise ExternalError(f"a program cannot be started ({error}); run the same command again") from error
    finally:
        remove_folder(folder)


def _run_in(folder: str, code: str, limits: ProgramLimits, off: tuple[str, ...]) -> ProgramResult:
    program = Path(folder) / "program.py"
    program.write_bytes(code.encode("utf-8", "surrogatepass"))
    told, tell = os.pipe()
    settings = {**asdict(limits), "weak": _Weak.count > 0, "off": off, "report": tell}
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("jail.py"))),
                *(str(program), json.dumps(settings)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            # One thread each: the numerical libraries would start one per core and fail.
            env=dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            start_new_session=True,
            pass_fds=(tell,),
        )
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tell)
    watch = _Watch(process, told, folder, limits)
    try:
        return watch.result()
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        os.close(told)


class _Watch:
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
