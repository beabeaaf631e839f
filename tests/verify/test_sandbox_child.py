"""The layers of the sandbox: each is really off when it is off, and what they keep in is kept in without the others."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.cli.main import main
from curate.errors import InputError
from curate.verify import ProgramLimits
from curate.verify.sandbox import _run, check_sandbox, printed_answer, weak_sandbox
from curate.verify.sandbox_child import LAYERS
from tests import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

ATTEMPTS = (ROOT / "tests" / "fixtures" / "escape_attempts.py").read_text(encoding="utf-8")
LIMITS = ProgramLimits(wall_seconds=60.0)
# Which attempts fail because of which layers: any of them will do.
KEEPS = {
    "files": {"root", "landlock"},
    "secrets": {"root", "landlock"},
    "network": {"namespaces", "filter"},
    "abstract": {"namespaces", "scopes", "filter"},
    "paths": {"root", "filter"},
    "sockets": {"filter"},
    "signals": {"scopes", "filter"},
    "owners": {"filter"},
    "processes": {"filter"},
    "kernel": {"filter"},
    "modes": {"filter"},
    "users": {"capabilities"},
}
_SPACES: list[tuple[str, ...]] = [(), ("users",), ("root",), ("users", "root"), ("users", "namespaces", "root")]
_FILES: list[tuple[str, ...]] = [(), ("scopes",), ("landlock", "scopes")]
_OTHERS: list[tuple[str, ...]] = [(), ("filter",), ("capabilities",), ("filter", "capabilities")]
COMBINATIONS = [tuple(itertools.chain(*each)) for each in itertools.product(_SPACES, _FILES, _OTHERS)]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a program could reach if it could: see tests/fixtures/escape_attempts.py."""
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    name = f"curate-escape-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as at_path,
    ):
        abstract.bind("\0" + name)
        at_path.bind(str(tmp_path / "socket"))
        yield {
            "outside": str(tmp_path),
            "parent": os.getpid(),
            "port": server.getsockname()[1],
            "abstract": name,
            "socket_path": str(tmp_path / "socket"),
        }
        for each in (abstract, at_path):
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                each.recv(1)
    assert sorted(os.listdir(tmp_path)) == ["secret", "socket"]
    assert (tmp_path / "secret").read_text() == "secret"


def escapes(given: dict[str, Any], off: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The layers that were in place, and the attempts that they should have kept from succeeding but have not."""
    layers = _run("", LIMITS, off).layers
    groups = [name for name, keepers in KEEPS.items() if keepers & set(layers)]
    result = _run(f"GIVEN = {given | {'groups': groups}!r}\n{ATTEMPTS}", LIMITS, off)
    assert result.failure is None, result.failure
    assert result.layers == layers
    tried = json.loads(str(result.output))
    assert list(tried) == groups
    return layers, {f"{g}: {n}": got for g, each in tried.items() for n, got in each.items() if got is not None}


def test_nothing_gets_out(given: dict[str, Any]) -> None:
    layers, escaped = escapes(given, ())
    if not set(KEEPS["files"]) & set(layers):
        pytest.skip(f"this kernel has only {layers}")
    assert escaped == {}


@pytest.mark.slow
@pytest.mark.parametrize("off", COMBINATIONS, ids=lambda off: "without " + (", ".join(off) or "none"))
def test_what_one_layer_keeps_in_stays_in_without_the_others(off: tuple[str, ...], given: dict[str, Any]) -> None:
    here = set(_run("", LIMITS).layers)
    if not here:
        pytest.skip("no sandbox on this kernel")
    if set(off) - {"root", "users"} - here:
        pytest.skip(f"this kernel has no {', '.join(sorted(set(off) - here))} to leave out")
    if "users" in off and "namespaces" not in off and os.geteuid() != 0:
        pytest.skip("only root has namespaces without a user namespace")
    left = here - set(off)
    if not left & {"namespaces", "filter"} or not left & {"root", "landlock", "filter"}:
        with weak_sandbox():
            result = _run("print(1)", LIMITS, off)
        assert (result.output, result.layers) == (None, ())
        assert str(result.failure).startswith("not run: neither")
        return
    if not left & {"root", "landlock"}:
        assert "--weak-sandbox" in str(_run("print(1)", LIMITS, off).failure)
        with weak_sandbox():
            layers, escaped = escapes(given, off)
    else:
        layers, escaped = escapes(given, off)
    assert set(layers) == left
    assert escaped == {}


# A line that succeeds exactly without the layers named, of those in place.
OFF_INDEED = [
    (("filter",), "import os; os.memfd_create('x')"),
    (("landlock", "scopes", "root"), "open('/etc/passwd').read()"),
    (("landlock", "scopes"), "import os; os.listdir('/')"),
    (("scopes", "filter"), "import os; os.kill(os.getppid(), 0)"),
    (("namespaces", "root", "users", "filter"), None),
    (("capabilities",), "import ctypes; assert ctypes.CDLL(None).prctl(23, 0, 0, 0, 0) == 1"),
]


@pytest.mark.parametrize(("off", "code"), OFF_INDEED, ids=lambda each: str(each)[:40])
def test_a_layer_that_is_off_is_off(off: tuple[str, ...], code: str | None) -> None:
    if set(LAYERS) - set(_run("", LIMITS).layers):
        pytest.skip("this kernel lacks layers")
    with weak_sandbox():
        if code is None:
            assert "neither a network namespace" in str(_run("", LIMITS, off).failure)
            return
        assert _run(code, LIMITS, off).failure is None
        for kept in off:
            fewer = tuple(name for name in off if name != kept)
            if kept != "scopes" or off[0] == "scopes":  # it is nothing without landlock
                assert "Error" in str(_run(code, LIMITS, fewer).failure), kept


def test_users_and_scopes_can_be_left_out_alone() -> None:
    layers = _run("", LIMITS).layers
    for name in {"users", "scopes"} & set(layers):
        assert name not in _run("", LIMITS, (name,)).layers


# -- where files are open ----------------------------------------------------------------------------------------------

OPEN = ("landlock", "scopes", "root")


def test_without_files_closed_nothing_runs_until_told(tmp_path: Path) -> None:
    if "filter" not in _run("", LIMITS).layers:
        pytest.skip("no filter here")
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    result = _run(code, LIMITS, OPEN)
    assert "pass --weak-sandbox" in str(result.failure)
    assert (result.output, result.layers) == (None, ())
    assert not (tmp_path / "ran").exists()
    with weak_sandbox():
        assert _run(code, LIMITS, OPEN).output == ""
    assert (tmp_path / "ran").exists()


def test_keys_stay_closed_where_files_are_open() -> None:
    if "filter" not in _run("", LIMITS).layers:
        pytest.skip("no filter here")
    here, code = os.getpid(), "print(open('/proc/{}/{}', 'rb').read(64))"
    with weak_sandbox():
        for name in ("environ", "maps"):
            assert "Error" in str(_run(code.format(here, name), LIMITS, OPEN).failure)
        assert "Error" in str(_run(f"import os; os.readlink('/proc/{here}/root')", LIMITS, OPEN).failure)
    assert Path(f"/proc/{here}/environ").stat().st_uid == os.getuid()  # as before


def test_the_environment_of_a_program_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "HOME", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "hunter2")
    names = str(_run("import os; print(*os.environ)", LIMITS).output).split()
    assert set(names) <= {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LC_CTYPE"}


@pytest.mark.parametrize("call", [check_sandbox, lambda: printed_answer("print(1)")])
def test_what_asks_for_an_answer_says_what_to_do(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.verify.sandbox.sys.platform", "darwin")
    with pytest.raises(InputError, match=r"Linux only.*leave out --run-programs"):
        call()


@pytest.mark.parametrize("command", ["run", "plan", "synthesize", "validate"])
def test_every_command_that_runs_programs_takes_the_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--run-programs" in text
    assert "--weak-sandbox" in text
    out = [] if command == "plan" else ["--out", "never"]
    model = ["--model", "scratch"] if command == "validate" else []
    assert main([command, "rows.jsonl", *out, *model, "--weak-sandbox"]) == 2
    assert "add --run-programs" in capsys.readouterr().err


# -- what a program leaves behind --------------------------------------------------------------------------------------


def test_where_a_new_root_cannot_be_made_the_old_one_stays(tmp_path: Path) -> None:
    """As on a kernel without tmpfs for users: here a size that no file system has."""
    here = _run("", LIMITS).layers
    if "root" not in here:
        pytest.skip("no root of its own here")
    limits = ProgramLimits(wall_seconds=60.0, folder_bytes="none")  # type: ignore[arg-type]
    folder, (told, tell) = tmp_path, os.pipe()
    (folder / "program.py").write_text("import os; print(os.listdir('.'), os.getcwd())")
    settings = {**vars(limits), "weak": False, "off": [], "report": tell}
    jail = Path(str(sys.modules["curate.verify.sandbox_child"].__file__))
    done = subprocess.run(
        [sys.executable, "-I", str(jail), str(folder / "program.py"), json.dumps(settings)],
        cwd=folder,
        capture_output=True,
        text=True,
        pass_fds=(tell,),
    )
    os.close(tell)
    with open(told) as report:
        assert set(report.read().split()) == set(here) - {"root"}
    assert (done.returncode, done.stdout) == (0, f"['program.py'] {folder}\n"), done.stderr


# -- how it ends -------------------------------------------------------------------------------------------------------


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Also where that is killed, so that nothing keeps on running."""
    code = (
        "import sys\nfrom curate.verify import ProgramLimits, run_program\n"
        "run_program('import time, sys; time.sleep(300)', ProgramLimits(wall_seconds=300.0))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        try:
            jails: list[str] = []
            for _ in range(200):
                if jails := _jails(str(tmp_path)):
                    break
                signal.sigtimedwait([], 0.1)
        finally:
            process.kill()
    assert jails
    for _ in range(100):
        if not _jails(str(tmp_path)):
            return
        signal.sigtimedwait([], 0.1)
    pytest.fail("the program outlived the process that started it")


def _jails(place: str) -> list[str]:
    """Running processes with a program under `place` in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"sandbox_child.py" in command and place.encode() in command:
            found.append(entry.name)
    return found
