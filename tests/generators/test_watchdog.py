"""Whatever a server started is gone with it, however this process ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from curate.errors import ExternalError
from curate.generators import server as server_process
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request
from curate.generators.server import ServerProcess
from tests.fixtures.completions import _interruptible
from tests.fixtures.server_processes import FAKE, alive, gone, many, server

pytestmark = pytest.mark.usefixtures("own_logs")


def test_what_the_server_started_is_ended_with_it_even_in_another_session(tmp_path: Path) -> None:
    complete(server("--child", str(tmp_path / "pids")), many(3))
    assert gone(json.loads((tmp_path / "pids").read_text()), 0)


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_process, "_GRACE", 0.3)
    complete(server("--stubborn", "--child", str(tmp_path / "pids")), many(3))
    assert gone(json.loads((tmp_path / "pids").read_text()), 0)


class Failing:
    """A queue that fails with the third completion."""

    def __init__(self) -> None:
        self.waiting = many(20)

    def take(self, most: int) -> list[Request]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        if request.index >= 3:
            raise ExternalError("the disk is full")


def test_an_error_ends_the_server_too(tmp_path: Path) -> None:
    with pytest.raises(ExternalError, match="the disk is full"):
        server("--child", str(tmp_path / "pids")).serve(Failing())
    assert gone(json.loads((tmp_path / "pids").read_text()), 0)


ASKER = """
import sys
from curate.generators.requests import Request, Sampling
from curate.generators import VLLMServer
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
requests = [Request(f"question {k}", Sampling(max_tokens=50), 0, k) for k in range(20_000)]
generator = VLLMServer(model="org/fake-model", command=tuple(sys.argv[2:4]), arguments=tuple(sys.argv[4:]))
complete(generator, requests, RequestStore(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_when_ours_ends_however_it_ends(tmp_path: Path, number: int) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    command = [sys.executable, "-c", ASKER, str(store.path), *FAKE, "--child", str(tmp_path / "pids")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=_interruptible) as process:
        end = time.monotonic() + 30
        while store.path.exists() is False or store.count() < 5:
            assert time.monotonic() < end
            time.sleep(0.05)
        pids = json.loads((tmp_path / "pids").read_text())
        pids += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(set(pids)) == 3  # watchdog, server, and what that started
        assert all(map(alive, pids))
        process.send_signal(number)
        process.wait()
    assert gone(pids)


def test_a_killed_watchdog_is_no_reason_to_hang(tmp_path: Path) -> None:
    process = ServerProcess(["sleep", "600"], dict(os.environ))
    time.sleep(0.2)
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait()
    assert process.status() == -signal.SIGKILL
    process.close()
    assert gone([process.process.pid], 1)
