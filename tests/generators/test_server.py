"""A server of our own: started, watched, started again, and gone afterwards with everything it started."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from curate.console.progress import Progress
from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer
from curate.generators import openai_client as client
from curate.generators import server as server_process
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.server import ServerProcess, find_command
from curate.storage.atomic import owner
from curate.storage.temporary import _remove_left
from tests.fixtures.completions import Pulled, _until, ask, connect
from tests.fixtures.raw_answers import HEAD, Noted, sending
from tests.fixtures.server import FakeServer, Fault
from tests.fixtures.server_processes import FAKE, many, server

pytestmark = pytest.mark.usefixtures("own_logs")


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


def test_a_log_whose_process_was_killed_is_removed_by_the_next_unless_an_error_names_it(tmp_path: Path) -> None:
    named = ServerProcess(["true"], dict(os.environ))
    named.close(keep_log=True)
    dead = owner().rpartition("-")[0] + "-1"
    left, kept = (tmp_path / "logs" / f"curate-server-{dead}-{name}" for name in ("left", "kept"))
    shutil.copytree(named.folder, kept)
    left.mkdir()
    shutil.copy(named.log, left)
    _remove_left.cache_clear()  # as in a new process
    ServerProcess(["true"], dict(os.environ)).close()
    assert {*(tmp_path / "logs").iterdir()} == {named.folder, kept}


def test_a_machine_without_room_for_a_log_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ExternalError, match=r"needs a temporary folder .*; set TMPDIR to one with room"):
        complete(server(), many(1))


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
        with pytest.raises(InputError, match=r"no command .*separate environment.* or name a server with --url"):
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


@pytest.mark.parametrize(
    "words",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "ValueError: Free memory on device (3.1/139 GiB) on startup is less than desired GPU memory utilization (0.9)",
        "ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization",
    ],
)
def test_a_gpu_without_room_is_one_line_with_the_remedy(words: str) -> None:
    with pytest.raises(ExternalError, match=r"too little memory .* --max-model-len 4096.*; log ") as caught:
        complete(server("--fail-with", words), many(1))
    assert "\n" not in str(caught.value)


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


# -- servers that are watched ------------------------------------------------------------------------------------------


def test_all_servers_gone_for_too_long_is_an_external_error_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(delay=0.01) as server:
        threading.Thread(target=lambda: (_until(lambda: len(server.answered) > 20), server.stop())).start()
        with pytest.raises(ExternalError, match=r"no server has answered for 0.5 s at http://127.0.0.1:\d+ \(conn"):
            complete(connect(server, outage_timeout=0.5, connections=4), many(500), store)
        assert store.count() >= 20
        server.start()
        assert len(complete(connect(server), many(500), store)) == 500
    paid_twice = sum(count - 1 for count in server.answered.values())
    assert paid_twice <= 4  # answered, but killed with the connection


def test_no_server_at_all_is_said_at_once_and_waited_for_a_little() -> None:
    with FakeServer() as server:
        url = server.url
    queue = Pulled(1)
    with pytest.raises(ExternalError, match=rf"no server answers at {url} \(connection refused\); start it, or"):
        VLLMServer(model="m", url=url).serve(queue)
    assert queue.notes == [f"no server answers at {url} (connection refused); waiting up to 0.2 s for it"]


def test_silence_is_told_and_told_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "FIRST_SILENCE", 0.1)
    queue = Noted(3)
    with FakeServer(faults=lambda body, _: Fault("hang")) as server, pytest.raises(ExternalError):
        connect(server, request_timeout=1.2, patience=1.2).serve(queue)
    told = [note for note in queue.notes if note.startswith("waiting: no answer for")]
    assert 1 <= len(told) <= 5, "at 0.1, 0.2, 0.4 and 0.8 s; a busy machine may miss some"
    assert all(note.endswith("3 requests under way, given up after 1.2 s each") for note in told)


def test_a_server_at_work_is_no_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "FIRST_SILENCE", 1.0)
    queue = Noted(80)
    with FakeServer(delay=0.03) as server:
        connect(server, connections=2).serve(queue)
    assert queue.notes == []


def test_a_hanging_list_of_models_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PROBE_SECONDS", 0.1)
    with FakeServer(listing=sending(HEAD + b"Content-Length: 9\r\n\r\n")) as server:
        with pytest.warns(UserWarning, match=r"no server answers at .* \(it does not answer\); one has"):
            connect(server).check_ready()  # it may be there when it is needed
        with pytest.raises(
            ExternalError, match=r"no server answers at http://127.0.0.1:\d+ \(it does not answer\); st"
        ):
            complete(connect(server), [ask(0)])


def test_a_server_that_is_just_being_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "FIRST_WAIT", 10.0)
    with FakeServer() as server:
        server.stop()
        queue = Noted(5)
        timer = threading.Timer(0.4, server.start)
        timer.start()
        connect(server).serve(queue)
        timer.join()
    assert len(queue.completions) == 5
    assert len(queue.notes) == 1
    assert queue.notes[0].startswith(f"no server answers at {server.url} (connection refused); waiting up to 10 s")


@pytest.mark.parametrize("status", [503, 502])
def test_a_server_that_still_loads_its_model_is_waited_for(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "FIRST_WAIT", 10.0)
    queue = Noted(2)
    with FakeServer(listing=Fault("status", status, "Loading model")) as server:
        timer = threading.Timer(0.3, lambda: setattr(server, "listing", None))
        timer.start()
        connect(server).serve(queue)
        timer.join()
    assert len(queue.completions) == 2
    assert f"(status {status}: Loading model); waiting" in queue.notes[0]


def test_a_name_that_nobody_knows_is_said_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(
        ExternalError, match=r"no server answers at http://no-such.invalid:8000 \(its name is not known\)"
    ):
        complete(VLLMServer(model="m", url="http://no-such.invalid:8000"), [ask(0)])
    assert time.monotonic() - started < 30


def test_a_server_without_encryption_at_an_encrypted_address_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "FIRST_WAIT", 30.0)

    def answer_in_the_clear() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer_in_the_clear)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ExternalError, match=r"\(no encrypted connection can be made\); start"):
            complete(VLLMServer(model="m", url=url), [ask(0)])
        thread.join()


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".y"])
def test_what_is_no_address_is_said_at_once(host: str) -> None:
    generator = VLLMServer(model="m", url=f"http://{host}:8000")
    for use in (generator.check_ready, lambda: complete(generator, [ask(0)])):
        with pytest.raises(
            InputError, match=rf"http://{re.escape(host)}:8000 is not a valid address; write it like http"
        ):
            use()


def test_too_many_numbers_for_an_address_are_said_at_once() -> None:
    generator = VLLMServer(model="m", url="http://1.2.3.4.5.6:8000")
    started = time.monotonic()
    # Older releases of aiohttp take them for a name, and look it up.
    with pytest.raises(
        (InputError, ExternalError), match=r"is not a valid address; write it like|its name is not known"
    ):
        complete(generator, [ask(0)])
    assert time.monotonic() - started < 30
