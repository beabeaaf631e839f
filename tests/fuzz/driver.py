"""Runs commands in forked processes, within bounds, and tells how each ended; for the fuzz tests.

Everything is imported once and a child is forked per request, so that an example costs a fraction of a second, and one
that ends in a signal, hangs or eats memory ends nothing else.

Each line on stdin is a JSON request:
    arguments: of the command; or program: the text of one, to be run in the sandbox, whose result is then the output
    folder: to run it in
    environment: {name: value, or null for one that is not set}
    keys: what it reads on stdin
    until: what it prints when it is to be interrupted, as by Ctrl-C; null = never
    seconds: of processor time, after which it is killed; also after five times as many of wall time, since other
        processes may be busy
    bytes: of address space, beyond what this process has
The answer is a line with {status, output, errors, seconds, bytes, left}: status as `os.waitstatus_to_exitcode` gives
it (negative: a signal), null if it was killed for time; bytes: most that were resident, beyond what this process had;
left: whether it left processes behind.
"""

import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import time
from typing import IO, Any, NoReturn

import datasets  # noqa: F401
import gguf  # noqa: F401
import plotly.graph_objects  # noqa: F401
import sklearn.cluster
import sklearn.mixture  # noqa: F401
import transformers.models.gpt2.modeling_gpt2
import transformers.models.llama.modeling_llama  # noqa: F401

import augmenters
import curate.cli.main
import scorers
from curate.gate.normalization import number_words
from curate.report.run_page import _environment, _plotly_source
from curate.verify import ProgramLimits, run_program
from tests.fixtures import imported

# Modules that are a program of their own, or need what is not installed here.
_APART = ("__main__", "math_verify_worker", "sandbox_child", "watchdog")
_PATIENCE = 5.0


def import_all() -> None:
    for package in (curate, scorers, augmenters):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(_APART):
                importlib.import_module(module.name)


def fill_caches() -> None:
    """Compute what most commands need once per process, half of a short one's time: children have it from the start."""
    number_words()
    _plotly_source()
    for name in _environment().list_templates(extensions="j2"):
        _environment().get_template(name)


def child(request: dict[str, Any], output: int, errors: int, news: IO[str]) -> NoReturn:
    status = 70
    imported.forked()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        keys = os.memfd_create("keys")
        os.write(keys, request["keys"].encode("utf-8", "surrogatepass"))
        os.lseek(keys, 0, os.SEEK_SET)
        os.dup2(keys, 0)
        sys.stdin = os.fdopen(0, errors="replace", closefd=False)  # that of the server has read ahead
        os.dup2(output, 1)
        os.dup2(errors, 2)
        for name, value in request["environment"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        os.chdir(request["folder"])
        most = own_bytes("VmSize") + request["bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = program(request["program"]) if "program" in request else curate.cli.main.main(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        imported.tell(news)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def program(code: str) -> int:
    result = run_program(code, ProgramLimits(wall_seconds=10.0, cpu_seconds=2))
    print(json.dumps({"output": result.output, "failure": result.failure}))
    return 0


def own_bytes(name: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def served(request: dict[str, Any]) -> dict[str, Any]:
    output, errors = os.memfd_create("output"), os.memfd_create("errors")
    resident = own_bytes("VmRSS")
    news = tempfile.TemporaryFile("w+")  # noqa: SIM115
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(request, output, errors, news)
    ended = waited(pid, request["seconds"], output, request["until"])
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    seconds = time.monotonic() - started
    with news:
        imported.learn(news)
    try:
        os.killpg(pid, signal.SIGKILL)
        left = True
    except ProcessLookupError:
        left = False
    return {
        "status": os.waitstatus_to_exitcode(status) if ended else None,
        "output": text_of(output),
        "errors": text_of(errors),
        "seconds": seconds,
        "bytes": max(0, used.ru_maxrss * 1024 - resident),
        "left": left and ended,
    }


def waited(pid: int, seconds: float, output: int, until: str | None) -> bool:
    """Whether a process ends in time; it is interrupted once it has printed `until`."""
    waiting, last = os.pidfd_open(pid), time.monotonic() + _PATIENCE * seconds
    try:
        while not select.select([waiting], [], [], 0.5)[0]:
            if time.monotonic() > last or used_seconds(pid) > seconds:
                return False
            if until is not None and until.encode() in os.pread(output, 1 << 16, 0):
                os.kill(pid, signal.SIGINT)
                until = None
        return True
    finally:
        os.close(waiting)


def used_seconds(pid: int) -> float:
    """Processor time of a process and of its children that have ended."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # fields 14 to 17 of proc(5)


def text_of(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(descriptor, errors="backslashreplace", newline="") as stream:
        return stream.read(1 << 20)


if __name__ == "__main__":
    import_all()
    fill_caches()
    for line in sys.stdin:
        print(json.dumps(served(json.loads(line))), flush=True)
