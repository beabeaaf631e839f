"""Programs of a model and answers of a server: whatever they are, what reads them ends in 0, 2 or 3."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fixtures.server import FakeServer, Fault
from tests.fuzz.harness import SCALES, Answer, Driver, Record, fuzz, hostile_text, mostly
from tests.fuzz.recipe_strategies import plain_values, rows_file

Strategy = st.SearchStrategy[Any]


# -- programs --------------------------------------------------------------------------------------------------------

_PIECES = [
    "while True: pass",
    "import os\nwhile True: os.fork()",
    "import os\nfor _ in range(20000):\n    os.mkdir('a')\n    os.chdir('a')",
    "for k in range(10**6): open(str(k), 'w').close()",
    "x = bytearray(1 << 40)",
    "x = []\nwhile True: x.append(bytearray(1 << 24))",
    "while True: print('x' * 10**6)",
    "open('x', 'w').truncate(1 << 50)",
    "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    "import ctypes; ctypes.string_at(0)",
    "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "import os, signal; os.kill(0, signal.SIGTERM)",
    "import os; os._exit(255)",
    "import os; [os.close(k) for k in range(3)]",
    "import os; os.chmod('.', 0)",
    "import os; os.symlink('.', 'loop'); os.mkfifo('pipe'); os.symlink('/', 'root')",
    "import os; os.rename('program.py', b'\\xff\\x1b[31m')",
    "import os; os.setsid(); os.fork()\nimport time; time.sleep(60)",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()",
    "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "print('\\ud800')",
    "print('\\x1b[31m', end='')",
    "import threading; [threading.Thread(target=input).start() for _ in range(500)]",
    "import subprocess; subprocess.run(['sh', '-c', 'yes'])",
    "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
    "raise SystemExit('x' * 10**6)",
    "raise BaseException('\\x1b[31m')",
    "print(eval('(' * 1000 + ')' * 1000))",
    "print(9 ** 9 ** 9)",
]


def hostile_programs() -> Strategy:
    anything = st.one_of(hostile_text(), st.text(max_size=30))
    pieces = st.lists(mostly(st.sampled_from(_PIECES), anything), min_size=1, max_size=3)
    return pieces.map(lambda some: "\n".join(f"try:\n {one!r}\n exec({one!r})\nexcept Exception: pass" for one in some))


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
@SCALES
def test_programs_of_any_kind_leave_nothing_behind(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(code: str, folder: Path) -> Iterable[Answer]:
        answer = driver.run_program(code, folder)
        yield answer
        assert set(json.loads(answer.output)) == {"output", "failure"}

    cases = mostly(hostile_programs(), hostile_text())
    fuzz("programs, hostile", cases, attempt, record_property, scale=scale, weight=0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
@SCALES
def test_programs_that_calculate_print_what_they_should(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(numbers: list[int], folder: Path) -> Iterable[Answer]:
        code = f"numbers = {numbers}\ntotal = 0\nfor each in numbers:\n    total += each * each\nprint(total)\n"
        answer = driver.run_program(code, folder)
        told = json.loads(answer.output)
        right = told["output"] == f"{sum(each * each for each in numbers)}\n"
        yield answer if right else dataclasses.replace(answer, status=2, errors=f"curate: {told['failure']}")

    cases = st.lists(st.integers(-(10**20), 10**20), max_size=9)
    fuzz("programs, valid", cases, attempt, record_property, scale=min(scale, 12), weight=0.3, valid=True)


# -- server answers --------------------------------------------------------------------------------------------------


@contextmanager
def served(*arguments: Any, **more: Any) -> Iterator[FakeServer]:
    with FakeServer(*arguments, **more) as server:
        yield server


def synthesized(driver: Driver, server: FakeServer, folder: Path) -> Answer:
    """A run that asks the server for a few proposals, and is soon out of patience."""
    (folder / "rows.jsonl").write_text(rows_file())
    generator = {"use": "VLLMServer", "model": server.model, "url": server.url, "retries": 1, "patience": 4}
    generator |= {"request_timeout": 3, "outage_timeout": 2, "start_timeout": 3}
    synthesize = {"use": "Synthesize", "generator": generator, "rows": 2, "variants": 1, "samples": 2, "band": [1, 2]}
    synthesize |= {"noise_guard": 0}
    recipe = {"scorer": {"use": "Length"}, "clusterer": {"use": "KMeans"}, "augmenters": [synthesize]}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return driver.run(["run", "rows.jsonl", "--recipe=recipe.yaml", "--out=out"], folder, seconds=60)


def bodies() -> Strategy:
    """JSON texts like a completion, and others."""
    choice = st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(-1, 2),
            "finish_reason": st.one_of(st.sampled_from(["stop", "length", None]), plain_values()),
            "message": st.one_of(st.fixed_dictionaries({"content": plain_values()}), plain_values()),
            "text": plain_values(),
        },
    )
    usage = st.one_of(st.fixed_dictionaries({"completion_tokens": plain_values()}), plain_values())
    whole = st.fixed_dictionaries(
        {"choices": st.one_of(st.lists(choice, max_size=2), plain_values())},
        optional={"usage": usage, "error": plain_values()},
    )
    return st.one_of(
        whole.map(json.dumps), plain_values().map(json.dumps), st.text(max_size=30), st.just("[" * 100_000)
    )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def faults() -> Strategy:
    headers = st.dictionaries(
        st.sampled_from(["Retry-After", "Content-Encoding", "X-Any", "Transfer-Encoding", "Set-Cookie"]),
        st.sampled_from(["gzip", "5", "-1", "1e9", "nan", "x" * 9000, "chunked", "\x01", "tomorrow", "\x1b[31m"]),
        max_size=1,
    )
    statuses = st.sampled_from([100, 199, 204, 301, 304, 400, 401, 404, 408, 413, 422, 429, 500, 503, 599, 999])
    text = hostile_text().filter(_encodable)
    return st.one_of(
        bodies().filter(_encodable).map(lambda body: Fault("raw", message=body)),
        bodies().filter(_encodable).map(lambda body: Fault("raw", message=body)),
        st.builds(
            lambda status, message, more: Fault("status", status, message, headers=more), statuses, text, headers
        ),
        st.sampled_from(
            [Fault("drop"), Fault("truncate"), Fault("close_midway"), Fault("redirect", message="http://[")]
        ),
        st.binary(max_size=60).map(lambda sent: Fault("bytes", sent=lambda: [sent])),
    )


@SCALES
def test_answers_of_any_kind_are_taken_or_told(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[list[Fault | None], str], folder: Path) -> Iterable[Answer]:
        ordered, text = case
        given = iter(ordered)
        with served(lambda body: text, lambda body, attempt: next(given, None)) as server:
            yield synthesized(driver, server, folder)

    some = st.lists(st.one_of(st.none(), faults(), faults()), min_size=1, max_size=4)
    fuzz("server answers, hostile", st.tuples(some, hostile_text()), attempt, record_property, scale=scale, weight=0.5)


@SCALES
def test_answers_of_any_text_are_taken(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[str, str], folder: Path) -> Iterable[Answer]:
        with served(lambda body: case) as server:
            yield synthesized(driver, server, folder)

    fence = st.text(max_size=40).map(lambda text: f"```text\n{text}\n```")
    answers = st.one_of(hostile_text(), fence, st.integers().map(lambda number: f"So \\boxed{{{number}}}."))
    cases = st.tuples(answers, st.sampled_from(["stop", "length"]))
    fuzz("server answers, valid", cases, attempt, record_property, scale=scale, weight=0.5, valid=True)
