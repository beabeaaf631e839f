"""The process that compares expressions: bounded in memory, and clean of what lies in the working folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.verify import Verdict, same_answer
from curate.verify.symbolic import Worker
from tests import ROOT
from tests.fixtures.answers import RIGHT, UNDECIDED


def ask(worker: Worker, seconds: float = 20.0) -> Verdict:
    return worker.compare("x+1", "1+x", ordered=False, seconds=seconds)


def served_by(worker: Worker) -> int:
    """Process id of the child that compares."""
    return int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])


def test_memory_is_limited_and_the_worker_lives_on() -> None:
    bomb = "(a+b+c+d+f+g+h+k)^{60}"  # 800 million terms, were it expanded
    worker = Worker(memory_bytes=96 * 2**20)
    try:
        assert ask(worker) is RIGHT
        child = served_by(worker)
        assert worker.compare(bomb, "x+a", ordered=False, seconds=10.0) is not RIGHT
        if served_by(worker) == child:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
            assert int(status["VmPeak"].split()[0]) <= 96 * 1024
        assert ask(worker) is RIGHT
    finally:
        worker.close()


def test_running_out_of_memory_is_undecided() -> None:
    worker = Worker(memory_bytes=1)
    try:
        assert worker.compare("(a+b+c+d+f+g+h+k)^{60}", "x+a", ordered=False, seconds=10.0) is UNDECIDED
    finally:
        worker.close()


@pytest.mark.parametrize(
    "huge",
    [
        "9^9^9^9",
        "9^{9^{9^9}}",
        "(9^9)^{(9^9)^9}",
        r"10^{10^{10}}",
        "(10^9)!",
        "1000000000!",
        "((20!)!)!",
        "(9999!)^{9999}",
        r"\binom{1000000000}{500000000}",
        "(1+x)^{999999}(1-x)^{999999}",
        "2^{99999}-2^{99998}",
        r"\sqrt{" * 60 + "2" + "}" * 60,
        r"\exp(\exp(\exp(\exp(9))))",
        r"\sum_{k=1}^{1000000000} \frac{1}{k}",
        "C(99999,5)",
        "9" * 1900 + "^{9999}",
        "(" * 300 + "2" + ")" * 300,
        r"\prod_{k=1}^{100000} k",
        r"\frac{1}{" * 40 + "x" + "}" * 40,
    ],
)
def test_what_is_huge_is_graded_in_bounded_time(huge: str) -> None:
    start = time.perf_counter()
    assert same_answer(huge, "5", wall_seconds=2.0) is not RIGHT
    assert same_answer("5", huge, wall_seconds=2.0) is not RIGHT
    assert time.perf_counter() - start < 15
    assert same_answer("x+1", "1+x", wall_seconds=20.0) is RIGHT


def test_nothing_that_lies_in_the_working_folder_is_imported(tmp_path: Path) -> None:
    for name in ("sympy", "math_verify", "curate", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    code = "import sys; sys.path.pop(0); from curate.verify import same_answer; print(same_answer('x+1', '1+x'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr
