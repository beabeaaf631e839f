"""Runs commands in processes that die, or find no room, at a given moment; for test_faults.py.

Everything is imported once and a child is forked per run, so that a death costs a second and not ten. What a child
does is `curate.cli.main`, with shards small enough for a few hundred rows to fill several.

Each line on stdin is a JSON list of requests that run side by side; the answer is a line with a list of
{status, text}. A request holds
    arguments: of the command
    log: file to which every rename that was done is appended, as "replace TARGET" or "rename TARGET"
    die: {when: before | after, at: pattern of such a line, signal}, if it shall die
    seconds: after which it is killed, if it shall be
    limit: bytes that a file may have, as if the disk were full (nothing is logged then)
    mortal: whether root gives up its power over modes
"""

import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import datasets  # noqa: F401
import plotly.graph_objects  # noqa: F401
import sklearn.cluster  # noqa: F401
import transformers  # noqa: F401

import augmenters  # noqa: F401
import curate.cli
import curate.curated
import curate.report
import curate.trace
import curate.train
import scorers  # noqa: F401


def child(request: dict[str, Any], pipe: int) -> NoReturn:
    os.dup2(pipe, 1)
    os.dup2(pipe, 2)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.replace = watched("replace", os.replace, request, log)
    os.rename = watched("rename", os.rename, request, log)
    if request.get("mortal"):
        give_up_power()
    if "limit" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    os._exit(curate.cli.main(request["arguments"]))


def watched(name: str, real: Callable[..., None], request: dict[str, Any], log: int) -> Callable[..., None]:
    """`real`, logged, with the death that was asked for just before or after it."""
    death = request.get("die")

    def call(source: Any, target: Any) -> None:
        event = f"{name} {target}"
        dies = death["when"] if death and re.search(death["at"], event) else None
        if dies == "before":
            os.kill(os.getpid(), death["signal"])
        real(source, target)
        if "limit" not in request:
            os.write(log, f"{event}\n".encode())
        if dies == "after":
            os.kill(os.getpid(), death["signal"])

    return call


def give_up_power() -> None:
    """Nothing is read-only to root; without the capabilities behind that it obeys modes like everybody."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    for position in (0, 1):  # effective, permitted
        sets[position] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


def collect(pid: int, pipe: int, seconds: float | None, answers: list[Any], place: int) -> None:
    timer = None if seconds is None else threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
    if timer:
        timer.start()
    with os.fdopen(pipe, errors="replace") as stream:
        text = stream.read()
    if timer:
        timer.cancel()
    answers[place] = {"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "text": text}


def serve(requests: list[dict[str, Any]]) -> list[Any]:
    children = []
    for request in requests:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            # A test run that was started in the background ignores interrupts, and its children would too.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            child(request, writing)
        os.close(writing)
        children.append((pid, reading, request.get("seconds")))
    answers: list[Any] = [None] * len(children)
    threads = [threading.Thread(target=collect, args=(*each, answers, k)) for k, each in enumerate(children)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


if __name__ == "__main__":
    curate.trace.SHARD_ROWS = 64
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
