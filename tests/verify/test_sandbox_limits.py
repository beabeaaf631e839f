"""Limits of programs hold, whatever they do, and nothing of them is left."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from curate.verify import ProgramLimits
from curate.verify.sandbox import _run, printed_answer
from curate.verify.sandbox_limits import remove_folder
from tests.fixtures.sandbox import QUICK, failure

pytestmark = pytest.mark.usefixtures("sandbox_here")

LIMITS = ProgramLimits(wall_seconds=60.0)


MESSES = {
    "nested": "for _ in range(3000):\n    os.mkdir('a')\n    os.chdir('a')",
    "nested with long names": "for _ in range(300):\n    os.mkdir('a' * 255)\n    os.chdir('a' * 255)",
    "odd names": "for k in range(1, 256):\n    if k not in (46, 47):\n        os.mkdir(bytes([k, 46]))",
    "without permission": "for k in range(8):\n    os.mkdir(str(k)); open(f'{k}/x', 'w')\nos.mkdir('y', 0)",
    "links": "os.symlink('.', 'a'); os.symlink('/', 'b'); os.symlink('c', 'c')",
    "many files": "for k in range(5000):\n    open(str(k), 'w')",
    "not itself": "os.remove(os.listdir('.')[0])",
}


@pytest.mark.parametrize("off", [(), ("namespaces", "root", "users")], ids=["own root", "on the disk"])
@pytest.mark.parametrize("mess", MESSES)
def test_whatever_it_leaves_is_removed(
    mess: str, off: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = _run(f"import os\n{MESSES[mess]}\nprint(4)", LIMITS, off)
    if not result.layers:
        pytest.skip(f"no sandbox here: {result.failure}")
    assert result.output == "4\n" or "cannot be looked into" in str(result.failure), result.failure
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("off", [(), ("namespaces", "root", "users")], ids=["own root", "on the disk"])
@pytest.mark.parametrize(
    ("code", "fails"),
    [
        ("for k in range(10**6):\n    open(str(k), 'w')", "made more than 500 files|No space left"),
        ("import os\nfor k in range(10**6):\n    os.mkdir(str(k))", "made more than 500 files|No space left"),
        (
            "import time\nfor k in range(100):\n    open(str(k), 'wb').write(b'x' * 900_000)\ntime.sleep(9)",
            "wrote more than 10000000 bytes|No space left",
        ),
    ],
)
def test_the_number_and_the_bytes_of_its_files_are_bounded(code: str, fails: str, off: tuple[str, ...]) -> None:
    limits = ProgramLimits(wall_seconds=30.0, folder_bytes=10_000_000, folder_files=500)
    result = _run(code, limits, off)
    if not result.layers:
        pytest.skip(f"no sandbox here: {result.failure}")
    assert any(each in str(result.failure) for each in fails.split("|")), result.failure


@pytest.mark.parametrize("off", [(), ("namespaces", "root", "users")], ids=["own root", "on the disk"])
def test_a_program_may_be_longer_than_a_file_that_it_writes(off: tuple[str, ...]) -> None:
    code = f"x = {'a' * 2_000_000!r}\nprint(len(x))\nopen('x', 'w').write(x)"
    result = _run(code, LIMITS, off)
    assert not result.layers or "File too large" in str(result.failure)


def test_threads_are_bounded() -> None:
    code = (
        "import threading, time\nthreading.stack_size(1 << 15)\n"
        "while True: threading.Thread(target=time.sleep, args=(60,)).start()"
    )
    failure = str(_run(code, LIMITS).failure)
    # Where the limit on processes binds, there is no second thread at all.
    assert "started more than 256 threads" in failure or "can't start new thread" in failure


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_folder_is_removed_by_whoever_may() -> None:
    """Without permissions, deep, with everything there can be in it; also by a user whom modes bind."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            root = place / "mess"
            root.mkdir()
            os.mkfifo(root / "fifo")
            with socket.socket(socket.AF_UNIX) as one:
                os.chdir(root)
                one.bind("socket")
            for _ in range(400):
                os.mkdir("b" * 200)
                open("file", "w").close()
                os.chdir("b" * 200)
            os.chdir(root)
            for mode in (0o000, 0o100, 0o200, 0o500):
                folder = root / f"mode-{mode:o}"
                (folder / "inside").mkdir(parents=True)
                (folder / "inside" / "file").touch()
                (folder / "inside").chmod(0)
                folder.chmod(mode)
            root.chmod(0o700)
            remove_folder(str(root))
            remove_folder(str(root))  # that it is gone is no matter
            status = int(root.exists())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    place.rmdir()


def test_a_program_can_name_no_exit_status_of_the_sandbox() -> None:
    for status in (124, 125):
        failure = _run(f"import sys; print('no', file=sys.stderr); sys.exit({status})", LIMITS).failure
        assert failure == f"exit status {status}: no"
    assert printed_answer("import sys; sys.exit(125)") is None


def test_a_signal_without_a_name_is_a_failure_too() -> None:
    code = (
        "import ctypes, struct, time\n"
        "event = struct.pack('QiiQ', 0, 40, 0, 0) + bytes(48)\n"
        "timer = ctypes.create_string_buffer(8)\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.timer_create(0, event, timer) == 0\n"
        "libc.timer_settime(ctypes.c_void_p.from_buffer(timer), 0, struct.pack('qqqq', 0, 0, 0, 1000), None)\n"
        "time.sleep(5)"
    )
    assert _run(code, LIMITS).failure in ("ended by signal 40", f"ended by {signal.Signals.SIGSEGV.name}")


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("import time; time.sleep(60)", ProgramLimits(wall_seconds=1.0), "took longer than 1 s"),
        ("while True: pass", ProgramLimits(wall_seconds=30.0, cpu_seconds=1), "ended by SIG"),
        ("bytearray(10**10)", QUICK, "MemoryError"),
        ("while True: print('a' * 1000)", QUICK, "printed more than 65536 bytes"),
        ("open('x', 'wb').write(b'a' * 10**7)", QUICK, "File too large"),
        ("files = [open('/dev/null') for _ in range(1000)]", QUICK, "Too many open files"),
        (
            "import os; os.close(1); os.close(2)\nimport time; time.sleep(60)",
            ProgramLimits(wall_seconds=1.0),
            "took longer",
        ),
    ],
)
def test_limits(code: str, limits: ProgramLimits, reason: str) -> None:
    start = time.perf_counter()
    assert reason in failure(code, limits)
    assert time.perf_counter() - start < 20.0
