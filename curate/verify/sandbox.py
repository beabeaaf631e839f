"""Python programs that a model wrote, run in a sandbox.

What is kept from a program: the network; other processes (it can start none, and signal none); its environment
(empty: no keys) and standard input; files, of which it may write those of its own temporary folder, and read those of
the Python installation; time, memory, output and file sizes, which are limited. This takes Linux: resource limits, a
user and network namespace, a system-call filter (x86-64 and ARM64) and Landlock (kernel 5.13 or later).

What is not: a namespace or a filter alone closes the network, so one of them is enough to run. Without the filter
(other processors), a program may start and signal processes; without Landlock, it may read and write what this user
may. Each file is limited, not their number, and files in a folder that is held in memory come on top of the address
space. A flaw of the kernel is no obstacle to a program that knows it: for an enemy's code use a virtual machine.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from curate.verify.jail import REFUSED

__all__ = ["ProgramLimits", "ProgramResult", "printed_answer", "program_in", "run_program"]

_FENCE = re.compile(r"```[ \t]*(?:python3?|py)[ \t]*\r?\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
_CODE_START = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:import \w|from \w+ import |def \w+\(|[A-Za-z_]\w*\s*=[^=]|print\()")
_ERROR_BYTES = 4_096


@dataclass(frozen=True)
class ProgramLimits:
    """What a program may use: seconds of wall clock and processor, bytes of address space, output and of a file."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 2**30
    output_bytes: int = 1 << 16
    file_bytes: int = 1 << 20


@dataclass(frozen=True)
class ProgramResult:
    """What a program printed, or why there is nothing: exactly one of `output` and `failure` is None."""

    output: str | None
    failure: str | None


def program_in(completion: str) -> str | None:
    """The Python program that a completion is: its last ```python fence, or all of it if it looks like one."""
    fences = _FENCE.findall(completion)
    if fences:
        return str(fences[-1])
    return completion if _CODE_START.match(completion) and "print(" in completion else None


def printed_answer(program: str) -> str | None:
    """The last line that a program prints; None where it fails or prints nothing."""
    printed = (run_program(program).output or "").strip()
    return printed.splitlines()[-1].strip() if printed else None


def run_program(code: str, limits: ProgramLimits | None = None) -> ProgramResult:
    """Run `code` in a new folder that holds nothing else, and return what it printed; what it does raises nothing here.

    Without Linux, or where the kernel closes the network in no way, nothing is run and `failure` says so.
    """
    limits = limits or ProgramLimits()
    if sys.platform != "linux":
        return ProgramResult(None, f"programs run on Linux only: no sandbox is known for {sys.platform}")
    with tempfile.TemporaryDirectory(prefix="curate-program-", ignore_cleanup_errors=True) as folder:
        program = Path(folder) / "program.py"
        program.write_bytes(code.encode("utf-8", "surrogatepass"))
        command = [sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("jail.py"))]
        process = subprocess.Popen(
            [*command, str(program), json.dumps(asdict(limits))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            # One thread each: the numerical libraries would start one per core and fail.
            env=dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            start_new_session=True,
        )
        try:
            return _watch(process, limits)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def _watch(process: subprocess.Popen[bytes], limits: ProgramLimits) -> ProgramResult:
    """Read what the program writes until it ends or breaks a limit."""
    deadline = time.monotonic() + limits.wall_seconds
    assert process.stdout is not None
    assert process.stderr is not None
    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return ProgramResult(None, f"took longer than {limits.wall_seconds:g} s")
            for key, _ in ready:
                more = os.read(key.fd, 1 << 16)
                if not more:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    errors = (errors + more)[-_ERROR_BYTES:]
                else:
                    output += more
                    if len(output) > limits.output_bytes:
                        return ProgramResult(None, f"printed more than {limits.output_bytes} bytes")
    try:
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return ProgramResult(None, f"took longer than {limits.wall_seconds:g} s")
    last = (errors.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
    if status == REFUSED:
        return ProgramResult(None, f"not run: {last}")
    if status < 0:
        return ProgramResult(None, f"ended by {signal.Signals(-status).name}")
    if status:
        return ProgramResult(None, f"exit status {status}: {last}")
    return ProgramResult(output.decode("utf-8", "replace"), None)
