"""Programs of a model: they print, and can do little else."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from curate.verify import Verdict, grade, grade_many, run_program
from curate.verify.sandbox import program_in
from tests import ROOT
from tests.fixtures.sandbox import QUICK, failure

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux"),
    pytest.mark.usefixtures("sandbox_here"),
]


# -- what a program can do ---------------------------------------------------------------------------------------------


def test_what_it_prints_is_its_output() -> None:
    assert run_program("print(6 * 7)\nprint('caf\u00e9')", QUICK).output == "42\ncaf\u00e9\n"
    assert run_program("", QUICK).output == ""


def test_numerical_packages_can_be_imported() -> None:
    code = "import numpy, sympy; print(int(numpy.arange(4).sum()) + int(sympy.Integer(36)))"
    assert run_program(code, QUICK).output == "42\n"


def test_it_can_write_in_its_folder_and_the_folder_goes() -> None:
    code = "import os; open('x', 'w').write('5'); print(open('x').read(), os.getcwd(), os.listdir('.'))"
    output = run_program(code, QUICK).output
    assert output is not None
    number, folder, names = output.split(maxsplit=2)
    assert number == "5"
    assert sorted(ast.literal_eval(names)) == ["program.py", "x"]
    assert not Path(folder).exists()


def test_it_can_use_threads() -> None:
    code = "import threading; t = threading.Thread(target=print, args=(5,)); t.start(); t.join()"
    result = run_program(code, QUICK)
    # Where the limit on processes binds (no other isolation is root's), threads fall under it.
    assert result.output == "5\n" or "thread" in str(result.failure)


def test_its_failures_are_reported() -> None:
    assert failure("raise ValueError('no')") == "exit status 1: ValueError: no"
    assert failure("import sys; sys.exit(3)") == "exit status 3: "
    assert "SyntaxError" in failure("print(")
    assert "EOFError" in failure("input()")


# -- what it cannot ----------------------------------------------------------------------------------------------------


def test_its_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    output = run_program("import os; print(dict(os.environ))", QUICK).output
    assert output is not None
    assert "hunter2" not in output
    assert "PATH" not in output
    assert "Error" in failure(f"print(open('/proc/{os.getpid()}/environ').read())")


def test_the_network_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "Error" in failure(f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)")
    assert "Error" in failure("import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')")
    # Not through the back door either: the raw call is refused.
    raw = "import ctypes; print(ctypes.CDLL(None, use_errno=True).syscall({}, 2, 1, 0))"
    number = {"x86_64": 41, "aarch64": 198}.get(os.uname().machine)
    if number is not None:
        assert run_program(raw.format(number), QUICK).output == "-1\n"


@pytest.mark.parametrize(
    "code",
    [
        "open({outside!r} + '/new', 'w')",
        "open({outside!r} + '/mine', 'a')",
        "print(open({outside!r} + '/mine').read())",
        "import os; os.remove({outside!r} + '/mine')",
        "import os; os.rename({outside!r} + '/mine', 'mine')",
        "import os; os.mkdir({outside!r} + '/new')",
        "import os; os.chmod({outside!r} + '/mine', 0o777)",
        "import os; os.utime({outside!r} + '/mine')",
        "import os; os.truncate({outside!r} + '/mine', 0)",
        "import os; os.listdir({outside!r})",
        "import os; os.symlink({outside!r}, 'link'); print(os.listdir('link'))",
        "import os; os.link({outside!r} + '/mine', 'mine'); print(open('mine').read())",
        "print(open('/etc/passwd').read())",
    ],
)
def test_files_outside_its_folder_are_out_of_reach(code: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("kept")
    before = mine.stat()
    assert "Error" in failure(code.format(outside=str(tmp_path)))
    assert mine.read_text() == "kept"
    assert (mine.stat().st_mode, mine.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.kill(os.getppid(), 0)",
        "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
    ],
)
def test_other_processes_are_out_of_reach(code: str) -> None:
    assert "Error" in failure(code)


def test_where_the_network_cannot_be_closed_nothing_runs(tmp_path: Path) -> None:
    """The locking-in itself, with a C library that refuses every call."""
    code = """
import sys
sys.argv = ["sandbox_child.py", {program!r}, {settings!r}]
from curate.verify import sandbox_child as jail
class Refusing:
    def unshare(self, *arguments): return -1
    def syscall(self, *arguments): return -1
    def prctl(self, option, *arguments): return 0 if option == 38 else -1
    def capset(self, *arguments): return -1
jail.ctypes.CDLL = lambda *arguments, **options: Refusing()
jail.main()
"""
    program = tmp_path / "program.py"
    program.write_text("open('ran', 'w')")
    settings = json.dumps({**asdict(QUICK), "weak": True, "off": [], "report": 1})
    done = subprocess.run(
        [sys.executable, "-c", code.format(program=str(program), settings=settings)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert "neither a network namespace nor a system-call filter" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_other_systems_run_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.verify.sandbox.sys.platform", "darwin")
    assert "Linux only" in failure("print(1)")


# -- as answers --------------------------------------------------------------------------------------------------------


def test_which_completions_are_programs() -> None:
    assert program_in("So:\n```python\nprint(42)\n```\nDone.") == "print(42)"
    assert program_in("```py\nprint(1)\n```\n```python\nprint(2)\n```") == "print(2)"
    assert program_in("```python\nprint(1") == "print(1"
    assert program_in("x = 6\nprint(x * 7)") == "x = 6\nprint(x * 7)"
    assert program_in("import math\nprint(math.pi)") is not None
    assert program_in("x = 6") is None
    assert program_in("The answer is 42. I could print(42).") is None


def test_programs_are_run_only_where_asked() -> None:
    completion = "```python\nprint('so')\nprint(6 * 7)\n```"
    assert grade(completion, "42", run_programs=True) is Verdict.right
    assert grade(completion, "41", run_programs=True) is Verdict.wrong
    assert grade(completion, "42") is not Verdict.right
    assert grade("```python\nwhile True print\n```", "42", run_programs=True) is Verdict.undecided
    assert grade("The answer is 42.", "42", run_programs=True) is Verdict.right
    assert grade_many([(completion, "42")], run_programs=True) == [Verdict.right]
