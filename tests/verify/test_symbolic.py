"""The processes that do algebra: limited in time and memory, replaced when they die, gone at the end."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.verify import Verdict, grade, grade_many, same_answer
from curate.verify.symbolic import Worker, close_workers, workers
from tests import ROOT
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG

# Takes SymPy minutes; in nothing but one polite integral.
HANGS = r"\int_0^1 \sin(\cos(x^{99}+e^{x^{88}}))^{77} dx"


def test_many_are_graded_as_one_is() -> None:
    pairs = [(rf"\boxed{{{k % 7}x + {k % 3}}}", f"{k % 3}+{k % 5}x") for k in range(60)] + [
        ("no", "1"),
        ("#### 2", "2"),
    ]
    alone = [grade(*pair) for pair in pairs]
    assert grade_many(pairs) == alone == grade_many(pairs, processes=2)
    assert set(alone) == set(Verdict)
    assert grade_many([]) == []
    with pytest.raises(InputError, match="processes=0"):
        grade_many(pairs, processes=0)


# -- faults of the worker ----------------------------------------------------------------------------------------------


def test_one_that_hangs_is_undecided_and_delays_the_others_by_its_limit_only() -> None:
    easy = [(rf"\boxed{{x+{k}}}", f"{k}+x") for k in range(10)]
    assert set(grade_many(easy)) == {RIGHT}
    start = time.perf_counter()
    verdicts = grade_many([*easy[:5], (rf"\boxed{{{HANGS}}}", "1"), *easy[5:]], wall_seconds=1.0)
    assert time.perf_counter() - start < 1.0 + 2.0
    assert verdicts == [RIGHT] * 5 + [UNDECIDED] + [RIGHT] * 5


def test_a_worker_that_hangs_is_gone_at_its_limit() -> None:
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        before = served_by(worker)
        assert worker.compare(HANGS, "1", ordered=False, seconds=0.5) is UNDECIDED
        assert ask(worker) is RIGHT
        after = served_by(worker)
        assert before != after
        assert not Path(f"/proc/{before}").exists()
    finally:
        worker.close()


def ask(worker: Worker, seconds: float = 20.0) -> Verdict:
    return worker.compare("x+1", "1+x", ordered=False, seconds=seconds)


def served_by(worker: Worker) -> int:
    """Process id of the child that compares."""
    return int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])


@pytest.mark.parametrize("whom", ["child", "parent"])
def test_a_worker_killed_in_the_middle(whom: str) -> None:
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        assert worker.pid is not None
        victim = served_by(worker) if whom == "child" else worker.pid
        threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()
        start = time.perf_counter()
        assert worker.compare(HANGS, "1", ordered=False, seconds=1.5) is UNDECIDED
        assert time.perf_counter() - start < (1.4 if whom == "child" else 6.0)
        assert ask(worker) is RIGHT
    finally:
        worker.close()


@pytest.mark.parametrize("whom", ["child", "parent"])
def test_a_worker_killed_while_idle(whom: str) -> None:
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        assert worker.pid is not None
        os.kill(served_by(worker) if whom == "child" else worker.pid, signal.SIGKILL)
        time.sleep(0.3)
        assert [ask(worker), ask(worker)][1] is RIGHT
    finally:
        worker.close()


def test_threads_get_their_own_verdicts() -> None:
    found: dict[int, list[Verdict]] = {}

    def work(k: int) -> None:
        found[k] = [same_answer(f"x+{k}+{j}", f"{k + j % 2 * 100}+{j}+x") for j in range(8)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [RIGHT, WRONG] * 4 for k in range(4)}


def test_after_a_fork_parent_and_child_have_workers_of_their_own() -> None:
    code = """
import os, sys
from curate.verify import same_answer
from curate.verify.symbolic import workers
assert same_answer("x+1", "1+x") == "right"
before = workers(1)[0].pid
child = os.fork()
if child == 0:
    ok = same_answer("x+2", "2+x") == "right" and workers(1)[0].pid != before
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert same_answer("x+3", "3+x") == "right" and workers(1)[0].pid == before
print(before)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    deadline = time.monotonic() + 5
    while Path(f"/proc/{done.stdout.strip()}").exists():
        assert time.monotonic() < deadline, "the worker outlived its process"
        time.sleep(0.05)


def test_a_worker_is_started_by_the_first_that_needs_algebra_and_reused() -> None:
    close_workers()
    assert same_answer("18", "$18") is RIGHT
    assert workers(1)[0].pid is None
    assert same_answer("x+18", "18+x") is RIGHT
    pid = workers(1)[0].pid
    assert same_answer("x+19", "19+x") is RIGHT
    assert pid is not None
    assert workers(1)[0].pid == pid


def test_a_worker_has_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        assert b"hunter2" not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    finally:
        worker.close()


def test_without_math_verify_numbers_work_and_algebra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("curate.verify.symbolic.find_spec", lambda name: None if name == "math_verify" else find(name))
    close_workers()
    assert grade("#### 18", "18") is RIGHT
    with pytest.raises(InputError, match=r"pip install 'curate-lm\[math\]'"):
        grade(r"\boxed{x+1}", "1+x")
    pairs = [("#### 18", "18"), (r"\boxed{x+1}", "1+x")]
    with pytest.raises(InputError):
        grade_many(pairs)
    assert grade_many(pairs, algebra=False) == [RIGHT, Verdict.undecided]


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ExternalError, match="did not start"):
        ask(worker)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExternalError, match="did not start"):
        ask(worker)
