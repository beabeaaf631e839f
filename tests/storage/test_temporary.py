"""Folders of a process's own: those of dead processes go when the next is made, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from curate.storage import atomic as publish
from curate.storage import temporary
from curate.storage.temporary import new_folder, temporary_folder
from curate.verify import run_program

WAITING = """
import sys
from curate.storage.temporary import new_folder
print(new_folder("curate-x-"), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has made no folder yet."""
    temporary._remove_left.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_killed_process_leaves_what_the_next_one_removes_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    def begin() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    killed, left = begin()
    (left / "inner").mkdir()
    (left / "inner" / "file").write_text("x")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    living, kept = begin()
    try:
        assert not left.exists()
        temporary._remove_left.cache_clear()
        own = Path(new_folder("curate-x-"))
        assert names(tmp_path) == {own.name, kept.name}
    finally:
        living.communicate("")


def test_what_is_not_known_to_be_a_dead_process_s_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, pid, start = publish.owner().split("-")
    (tmp_path / "elsewhere").mkdir()
    stays = {
        f"curate-x-{host}-{pid}-{start}-abc",  # of this process
        f"curate-x-00000000-{pid}-1-abc",  # of another machine or container
        f"curate-y-{host}-{pid}-1-abc",  # of another kind
        "curate-x-abc",
        "elsewhere",
    }
    for name in stays:
        (tmp_path / name).mkdir(exist_ok=True)
    link = tmp_path / f"curate-x-{host}-{pid}-1-link"
    link.symlink_to(tmp_path / "elsewhere")
    dead = tmp_path / f"curate-x-{host}-{pid}-1-abc"
    dead.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)  # as somebody else
        with temporary_folder("curate-x-"):
            pass
    assert names(tmp_path) == {*stays, link.name, dead.name}
    temporary._remove_left.cache_clear()
    with temporary_folder("curate-x-") as folder:
        assert folder.is_dir()
    assert names(tmp_path) == {*stays, link.name}


@pytest.mark.skipif(sys.platform != "linux", reason="programs run on Linux only")
def test_a_program_removes_the_folders_of_programs_whose_process_was_killed(tmp_path: Path) -> None:
    dead = tmp_path / f"curate-program-{publish.owner().rsplit('-', 1)[0]}-1-abc"
    (dead / "locked" / "inner").mkdir(parents=True)
    (dead / "locked").chmod(0)
    run_program("print(1)")
    assert names(tmp_path) == set()
