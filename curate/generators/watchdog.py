"""Run a command, and terminate it with every process it started when the parent process ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

_LOOK_EVERY = 0.1  # seconds
_AFTERWARDS = 1.0  # seconds that processes left behind by the command have to exit by themselves
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans of the command become children of this process


def main(parent: int, grace: float, command: list[str]) -> int:
    """Exit status of the command, or 128 + the signal that ended it.

        python watchdog.py PARENT GRACE COMMAND...

    It runs as a script in its own session, and waits for the end of its standard input or of the process PARENT,
    however that one ends: the descriptor closes even if it is killed. Then SIGTERM to all, GRACE seconds, SIGKILL.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _heard)  # a handler, not SIG_IGN, which the command would inherit
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    status: int | None = None
    while status is None and not _abandoned(parent):
        status = _reap(process.pid)
    ended = _end_all(grace, process.pid, status is not None)
    return next((code for code in (status, ended) if code is not None), 1)


def _heard(_number: int, _frame: object) -> None:
    """Ignore the signal: the watchdog exits last, after everything it started."""


def _abandoned(parent: int) -> bool:
    readable, _, _ = select.select([0], [], [], _LOOK_EVERY)
    return (bool(readable) and os.read(0, 64) == b"") or os.getppid() != parent


def _reap(pid: int) -> int | None:
    """Exit status of `pid` if it has ended. Raises ChildProcessError if there is no child left."""
    while True:
        ended, code = os.waitpid(-1, os.WNOHANG)
        if ended == 0:
            return None
        if ended == pid:
            exit_code = os.waitstatus_to_exitcode(code)
            return exit_code if exit_code >= 0 else 128 - exit_code


def _end_all(grace: float, pid: int, ended: bool) -> int | None:
    """SIGTERM to all, then SIGKILL; exit status of `pid` if it exited meanwhile."""
    status: int | None = None
    end = time.monotonic() + (_AFTERWARDS if ended else grace)
    try:
        os.killpg(0, signal.SIGTERM)
        while True:
            exit_status = _reap(pid)
            if exit_status is not None:
                status, end = exit_status, min(end, time.monotonic() + _AFTERWARDS)
                _signal_children(signal.SIGTERM)  # processes that left the group are children of this process now
            if time.monotonic() > end:
                _signal_children(signal.SIGKILL)
            time.sleep(0.02)
    except ChildProcessError:
        return status


def _signal_children(number: int) -> None:
    """Signal all processes the command started, once it has exited itself: they are then children of this process."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listed:
            children = [int(pid) for pid in listed.read().split()]
    except OSError:  # other systems: only the group is known, and this process is in it
        os.killpg(0, number)
        return
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
