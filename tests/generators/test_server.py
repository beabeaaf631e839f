"""A server of our own: started, watched, started again, and gone afterwards with everything it started."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from curate.console.progress import Progress
from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer, keepers
from curate.generators import openai_client as client
from curate.generators import server as server_process
from curate.generators.request_store import RequestStore, complete
from curate.generators.requests import Completion, Request, Sampling
from curate.generators.server import ServerProcess, find_command, one_line
from tests import ROOT
from tests.fixtures.completions import _interruptible

FAKE = (sys.executable, str(ROOT / "tests" / "fixtures" / "vllm.py"))


@pytest.fixture(autouse=True)
def _in_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Logs of servers lie in tmp_path/logs; quick retries; nothing that the test started is left running."""
    before = set(psutil.Process().children(recursive=True))  # such as the graders of other tests, which serve them all
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(keepers, "_WATCH_EVERY", 0.02)
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "logs"))
    yield
    assert not set(psutil.Process().children(recursive=True)) - before


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _gone(pids: list[int], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(_alive, pids))


def many(count: int) -> list[Request]:
    return [Request(f"question {k}", Sampling(max_tokens=50), 0, k) for k in range(count)]


def server(*arguments: str, **more: object) -> VLLMServer:
    return VLLMServer(**{"model": "org/fake-model", "command": FAKE, "arguments": arguments, **more})


def test_a_server_is_started_asked_and_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = complete(server(), many(20), progress=Progress("lines"))
    assert [each.text for each in found] == [f"about question {k} from start 1" for k in range(20)]
    assert not list((tmp_path / "logs").iterdir())
    notes = capsys.readouterr().err
    assert "starting: " in notes
    assert "server ready after" in notes


def test_the_log_of_a_server_is_private_whatever_the_umask() -> None:
    before = os.umask(0)
    try:
        process = ServerProcess(["true"], dict(os.environ))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (process.folder, process.log)] == [0o700, 0o600]
    process.close()


def test_nothing_is_started_where_everything_is_known(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    found = complete(server(), many(5), store)
    assert complete(server(command="no-such-command"), many(5), store) == found


def test_a_server_that_is_ready_is_used_to_the_full_at_once() -> None:
    """Requests wait for a server that starts; when it is up, not only the first of them may go."""
    generator = server("--slow", "2")
    started = time.monotonic()
    complete(generator, many(30))
    assert time.monotonic() - started < 2 + 2 + 1.9


def test_it_gets_no_key_of_the_users_but_one_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = tmp_path / "environment"
    script = tmp_path / "vllm"
    lines = ["#!/bin/sh", f"env > {seen}", f'exec {FAKE[0]} {FAKE[1]} "$@"']
    script.write_text("\n".join(lines))
    script.chmod(0o700)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
    complete(server(command=str(script)), many(1))
    environment = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    assert "sk-of-the-user" not in environment.values()
    assert len(environment["VLLM_API_KEY"]) > 30


def test_the_command_may_be_found_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "vllm"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_command("vllm") == [str(script)]
    assert find_command(("vllm", "x")) == [str(script), "x"]


def test_a_command_that_is_missing_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in ("vllm", "/no/such/vllm", ()):
        with pytest.raises(InputError, match=r"no command .*environment of its own.* or name a server with url"):
            complete(VLLMServer(model="m", command=command), many(1))


def test_a_folder_that_does_not_exist_is_said_before_anything_starts() -> None:
    with pytest.raises(InputError, match="'/no/such/folder' does not exist"):
        complete(server(model="/no/such/folder"), many(1))


def test_a_server_that_does_not_start_is_quoted_and_its_log_kept(tmp_path: Path) -> None:
    with pytest.raises(ExternalError) as caught:
        complete(server("--fail-with", "ValueError: no \x1b[31mkernel\x1b[0m for this device"), many(1))
    message = str(caught.value)
    assert "did not start (status 1): ValueError: no kernel for this device; log " in message
    assert message.isprintable()
    (log,) = (tmp_path / "logs").rglob("server.log")
    assert str(log) in message
    assert "INFO bye" in log.read_text()


def test_a_known_fault_of_the_server_comes_with_its_remedy() -> None:
    with pytest.raises(
        ExternalError, match=r"use offset - .* the arguments --no-enable-chunked-prefill .*; log "
    ) as caught:
        complete(server("--fail-with", "RuntimeError: CPU Generator does not use offset"), many(1))
    assert str(caught.value).isprintable()


def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    with pytest.raises(ExternalError, match=r"not ready after 0\.5 s .*raise start_timeout"):
        complete(server("--start-after", "60", start_timeout=0.5), many(1))


def test_a_server_that_dies_is_started_again_and_all_requests_come_back(tmp_path: Path) -> None:
    deaths = tmp_path / "deaths"
    store = RequestStore(tmp_path / "requests.sqlite")
    found = complete(server("--die-after", "30", "--deaths", str(deaths)), many(100), store)
    starts = [int(each.text.split()[-1]) for each in found]
    assert [each.text.split()[2] for each in found] == [str(k) for k in range(100)]
    assert set(starts) == {1, 2}
    assert len(deaths.read_bytes()) == 2
    assert store.count() == 100


def test_the_log_of_a_server_that_hangs_is_kept_and_named(tmp_path: Path) -> None:
    generator = server("--slow", "60", request_timeout=0.2, patience=0.3)
    with pytest.raises(ExternalError, match=r"one request was not answered in 0 s.*; see its log /") as caught:
        complete(generator, many(2))
    (log,) = (tmp_path / "logs").rglob("server.log")
    assert f"see its log {log}, or" in str(caught.value)


def test_a_server_that_keeps_dying_is_given_up_and_what_came_back_is_kept(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    generator = server("--die-after", "5", "--always", "--deaths", str(tmp_path / "deaths"), restarts=2, connections=2)
    with pytest.raises(ExternalError, match=r"the server died 3 times \(status 137\)"):
        complete(generator, many(200), store)
    assert (tmp_path / "deaths").stat().st_size == 3
    assert 5 <= store.count() < 200


def test_what_the_server_started_is_ended_with_it_even_in_another_session(tmp_path: Path) -> None:
    complete(server("--child", str(tmp_path / "pids")), many(3))
    assert _gone(json.loads((tmp_path / "pids").read_text()), 0)


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(server_process, "_GRACE", 0.3)
    complete(server("--stubborn", "--child", str(tmp_path / "pids")), many(3))
    assert _gone(json.loads((tmp_path / "pids").read_text()), 0)


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
    assert _gone(json.loads((tmp_path / "pids").read_text()), 0)


ASKER = """
import sys
from curate.generators.requests import Request, Sampling
from curate.generators import VLLMServer
from curate.generators.request_store import RequestStore, complete
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
        assert all(map(_alive, pids))
        process.send_signal(number)
        process.wait()
    assert _gone(pids)


def test_a_killed_watchdog_is_no_reason_to_hang(tmp_path: Path) -> None:
    process = ServerProcess(["sleep", "600"], dict(os.environ))
    time.sleep(0.2)
    os.kill(process.process.pid, signal.SIGKILL)
    process.process.wait()
    assert process.status() == -signal.SIGKILL
    process.close()
    assert _gone([process.process.pid], 1)


def test_last_words_are_the_errors_or_else_the_last_lines() -> None:
    script = "\n".join(f"print('line {k}')" for k in range(9))
    process = ServerProcess([sys.executable, "-c", script], dict(os.environ))
    assert process.process.wait() == 0
    assert process.last_words() == "line 5 | line 6 | line 7 | line 8"
    process.close()
    script = "\n".join(f"print('(Engine pid=1) RuntimeError: number {k}'); print('at', {k})" for k in range(5))
    process = ServerProcess([sys.executable, "-c", script], dict(os.environ))
    process.process.wait()
    assert [word.split()[-1] for word in process.last_words().split(" | ")] == ["0", "3", "4"]
    process.close()
    script = (
        "print('RuntimeError: CPU Generator does not use offset')\nfor k in range(9): print('RuntimeError: later', k)"
    )
    process = ServerProcess([sys.executable, "-c", script], dict(os.environ))
    process.process.wait()
    assert "--no-enable-chunked-prefill --max-num-batched-tokens N, with N at least max-m" in process.last_words()
    process.close()
    assert one_line("a\x1b[1;31mb\x00c\n\n d" + "x" * 500, 20) == "ab c dxxxxxxxxxxx..."
