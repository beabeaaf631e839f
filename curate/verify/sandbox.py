"""Run Python programs written by a model in a sandbox."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from curate.errors import ExternalError, InputError
from curate.storage.temporary import new_folder
from curate.verify.sandbox_limits import ProgramLimits, ProgramResult, Watch, remove_folder

_FENCE = re.compile(r"```[ \t]*(?:python3?|py)[ \t]*\r?\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
_CODE_START = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:import \w|from \w+ import |def \w+\(|[A-Za-z_]\w*\s*=[^=]|print\()")
_GET_DUMPABLE, _SET_DUMPABLE = 3, 4


def program_in(completion: str) -> str | None:
    """The Python program in a completion: its last ```python fence, or all of it if it looks like a program."""
    fences = _FENCE.findall(completion)
    if fences:
        return str(fences[-1])
    return completion if _CODE_START.match(completion) and "print(" in completion else None


def printed_answer(program: str) -> str | None:
    """The last line that a program prints; None if it fails or prints nothing.

    Raises InputError if no program can be run.
    """
    result = run_program(program)
    if not result.layers:
        raise _refusal(result)
    printed = (result.output or "").strip()
    return printed.splitlines()[-1].strip() if printed else None


def check_sandbox() -> None:
    """Raise InputError, with the remedy, if no program can be run."""
    result = run_program("")
    if not result.layers:
        raise _refusal(result)


def sandbox_layers() -> tuple[str, ...]:
    """The sandbox layers available on this machine, out of `curate.verify.sandbox_child.LAYERS`; empty if no program
    can be run."""
    return _layers(_Weak.count > 0)


@functools.lru_cache(maxsize=2)
def _layers(_weak: bool) -> tuple[str, ...]:
    return run_program("").layers


def _refusal(result: ProgramResult) -> InputError:
    return InputError(f"programs cannot be run here ({result.failure}); leave out --run-programs")


class _Weak:
    """How many callers currently allow programs to reach files, and the previous value of PR_GET_DUMPABLE."""

    count = 0
    dumpable = 1
    lock = threading.Lock()


@contextmanager
def weak_sandbox() -> Iterator[None]:
    """Within this context, programs are run even if the kernel cannot keep the user's files from them (--weak-sandbox).

    A program can then read and change what this user can, except the memory of this process, which may hold keys.
    """
    with _Weak.lock:
        if _Weak.count == 0 and sys.platform == "linux":
            libc = ctypes.CDLL(None)
            _Weak.dumpable = libc.prctl(_GET_DUMPABLE, 0, 0, 0, 0)
            libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)  # otherwise its environment and memory are files in /proc
        _Weak.count += 1
    try:
        yield
    finally:
        with _Weak.lock:
            _Weak.count -= 1
            if _Weak.count == 0 and sys.platform == "linux":
                ctypes.CDLL(None).prctl(_SET_DUMPABLE, _Weak.dumpable, 0, 0, 0)


def run_program(code: str, limits: ProgramLimits | None = None) -> ProgramResult:
    """Run `code` in a new folder that holds nothing else, and return what it printed; its errors do not raise.

    Out of reach of a program: the network; other processes (it can start none, and signal none); its environment
    (rebuilt, without keys) and standard input; files, of which it may write those of its own temporary folder, and read
    those of the Python installation; time, memory, output, and size and number of files, which are limited. It requires
    Linux and consists of layers that do not depend on each other: resource limits; namespaces with their own root; no
    capabilities; Landlock (kernel 5.13 or later); a system-call filter (x86-64 and ARM64). `sandbox_layers` returns
    those that this machine has.

    Limits of this: one layer that closes the network and one that closes the files are enough to run. Without the
    filter (other processors), a program may start processes and open sockets of families that know no namespace, such
    as vsock, and without Landlock's scopes also signal others. Where neither Landlock nor a root of its own is
    available, it could read and write what this user may, so nothing is run there except within `weak_sandbox`
    (--weak-sandbox). A flaw of the kernel is not an obstacle to a program that knows it: for hostile code use a virtual
    machine.

    Without Linux, or if the kernel can isolate neither network nor files, nothing is run and `failure` says so. Raises
    ExternalError if this machine has no disk space or no processes left.
    """
    return _run(code, limits or ProgramLimits())


def _run(code: str, limits: ProgramLimits, off: tuple[str, ...] = ()) -> ProgramResult:
    """Run a program. off: sandbox layers to leave out, for tests."""
    if sys.platform != "linux":
        return ProgramResult(None, f"programs run on Linux only: no sandbox is known for {sys.platform}")
    try:
        folder = new_folder("curate-program-", clear=remove_folder)
    except OSError as error:
        raise ExternalError(f"a program needs a temporary folder ({error}); set TMPDIR to one with room") from error
    try:
        return _run_in(folder, code, limits, off)
    except OSError as error:
        raise ExternalError(f"a program cannot be started ({error}); rerun the same command") from error
    finally:
        remove_folder(folder)


def _run_in(folder: str, code: str, limits: ProgramLimits, off: tuple[str, ...]) -> ProgramResult:
    program = Path(folder) / "program.py"
    program.write_bytes(code.encode("utf-8", "surrogatepass"))
    report, report_end = os.pipe()
    settings = {**asdict(limits), "weak": _Weak.count > 0, "off": off, "report": report_end}
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("sandbox_child.py"))),
                *(str(program), json.dumps(settings)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            # One thread each: numerical libraries would start one per core and fail.
            env=dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            start_new_session=True,
            pass_fds=(report_end,),
        )
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(report_end)
    watch = Watch(process, report, folder, limits)
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
        os.close(report)
