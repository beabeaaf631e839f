"""Servers that hang, trickle, flood or come late: an answer or one line within a stated time and memory."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer, failures, keepers
from curate.generators import openai_client as client
from curate.generators.failures import destination, pause_seconds, wanted_seconds
from curate.generators.request_store import RequestStore, complete
from tests.fixtures.completions import connect
from tests.fixtures.raw_answers import HEAD, PAGE, Noted, answer, ask, sending
from tests.fixtures.server import FakeServer, Fault, asked

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(client, "LONGEST_BACKOFF", 0.02)
    monkeypatch.setattr(keepers, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(keepers, "FIRST_WAIT", 0.3)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


# -- patience ---------------------------------------------------------------------------------------------------------
SILENT = {
    "hang": Fault("hang"),
    "stall": sending(HEAD + b"Content-Length: 100\r\n\r\n"),
    "trickle": sending(HEAD + b"\r\n", forever=b" ", seconds=0.02),
    "trickled headers": sending(HEAD, b"X-Slow: ", forever=b"a", seconds=0.02),
    "continue": sending(forever=b"HTTP/1.1 100 Continue\r\n\r\n", seconds=0.01),
    "half an answer": sending(HEAD + b"Content-Length: 5000\r\n\r\n" + answer()),
}


@pytest.mark.parametrize("kind", SILENT)
def test_a_server_that_does_not_finish_is_given_up_after_the_patience(kind: str, tmp_path: Path) -> None:
    """And what others were answered meanwhile is kept; the same command resumes."""
    stuck = lambda body, _: SILENT[kind] if asked(body) == "question 7" else None  # noqa: E731
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(faults=stuck) as server:
        # Time is counted from here, not by a clock on the wall: on a busy machine the others may take seconds.
        others = [ask(k) for k in range(12) if k != 7]
        complete(connect(server), others, store)
        generator = connect(server, request_timeout=0.2, patience=0.6)
        with pytest.raises(
            ExternalError, match=r"one request was not answered in \d+ s, at last by http.*same command"
        ):
            complete(generator, [ask(k) for k in range(12)], store)
        assert store.count() == 11
        tried = sum(asked(each) == "question 7" for each in server.requests)
        assert tried <= 2, "0.2 s and then what is left"
        before = len(server.requests)
        server.faults = lambda body, _: None
        assert len(complete(generator, [ask(k) for k in range(12)], store)) == 12
        assert len(server.requests) == before + 1


def test_a_server_that_hangs_is_left_out_as_long_as_others_answer() -> None:
    queue, hang = Noted(200), lambda body, _: Fault("hang")
    with FakeServer(faults=hang) as one, FakeServer(delay=0.01) as two:
        both = {"model": "fake-model", "url": (one.url, two.url)}
        VLLMServer(**both, request_timeout=1.0, patience=50.0).serve(queue)
        assert len(queue.completions) == 200
        assert len(one.requests) <= 64
        assert f"{one.url} has answered nothing in 1 s; others take its work" in queue.notes
        # With the other one gone it gets its chance, and is given up in the end.
        two.faults = hang
        with pytest.raises(ExternalError, match="one request was not answered"):
            VLLMServer(**both, request_timeout=0.3, patience=1.0).serve(Noted(5))


def test_the_default_patience_is_minutes() -> None:
    generator = VLLMServer(model="m")
    assert generator.request_timeout < generator.patience <= 3600
    # Retry-After and pauses between repeats are all that comes on top.
    assert (generator.retries + 1) * failures.LONGEST_PAUSE <= 1800


def test_silence_is_told_and_told_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "FIRST_SILENCE", 0.1)
    queue = Noted(3)
    with FakeServer(faults=lambda body, _: Fault("hang")) as server, pytest.raises(ExternalError):
        connect(server, request_timeout=1.2, patience=1.2).serve(queue)
    told = [note for note in queue.notes if note.startswith("waiting: no answer for")]
    assert 1 <= len(told) <= 5, "at 0.1, 0.2, 0.4 and 0.8 s; a busy machine may miss some"
    assert all(note.endswith("3 requests under way, given up after 1.2 s each") for note in told)


def test_a_server_at_work_is_no_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "FIRST_SILENCE", 1.0)
    queue = Noted(80)
    with FakeServer(delay=0.03) as server:
        connect(server, connections=2).serve(queue)
    assert queue.notes == []


def test_a_hanging_list_of_models_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PROBE_SECONDS", 0.1)
    with FakeServer(listing=sending(HEAD + b"Content-Length: 9\r\n\r\n")) as server:
        connect(server).check_ready()  # it may be there when it is needed
        with pytest.raises(
            ExternalError, match=r"no server answers at http://127.0.0.1:\d+ \(it does not answer\); st"
        ):
            complete(connect(server), [ask(0)])


def test_a_server_that_is_just_being_started_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "FIRST_WAIT", 10.0)
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
    monkeypatch.setattr(keepers, "FIRST_WAIT", 10.0)
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
    monkeypatch.setattr(keepers, "FIRST_WAIT", 30.0)

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
        with pytest.raises(InputError, match=rf"http://{re.escape(host)}:8000 is no address; write it like http"):
            use()


def test_too_many_numbers_for_an_address_are_said_at_once() -> None:
    generator = VLLMServer(model="m", url="http://1.2.3.4.5.6:8000")
    started = time.monotonic()
    # Older releases of aiohttp take them for a name, and look it up.
    with pytest.raises((InputError, ExternalError), match=r"is no address; write it like|its name is not known"):
        complete(generator, [ask(0)])
    assert time.monotonic() - started < 30


# -- Retry-After ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", ["1e12", "3600", "Thu, 08 Aug 2058 03:06:45 GMT"])
def test_a_huge_retry_after_is_told_and_bounded(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "LONGEST_PAUSE", 0.3)
    monkeypatch.setattr(client, "_SHORT_PAUSE", 0.1)
    queue, started = Noted(5), time.monotonic()
    busy = lambda body, attempt: None if attempt else Fault("status", 429, headers={"Retry-After": header})  # noqa: E731
    with FakeServer(faults=busy) as server:
        connect(server).serve(queue)
    assert len(queue.completions) == 5
    assert 0.3 < time.monotonic() - started < 30
    assert 1 <= len(queue.notes) <= 3, "not one for each request"
    for note in queue.notes:
        assert re.fullmatch(r"http\S+ wants to be asked no more for \d{4,13} s; waiting, asking again in 0 s", note)


@settings(deadline=None)
@given(st.one_of(st.none(), st.text(max_size=40), st.floats().map(str), st.integers().map(str)))
def test_whatever_retry_after_says_the_pause_is_bounded(header: str | None) -> None:
    assert 0 <= pause_seconds(header) <= failures.LONGEST_PAUSE
    assert 0 <= wanted_seconds(header) < float("inf")


@given(st.text(max_size=60))
def test_whatever_location_says_is_a_text(location: str) -> None:
    assert isinstance(destination(location), str)
    assert destination("http://[not-an-address") == "an address that cannot be read"


def test_what_goes_on_failing_is_told_before_it_is_given_up() -> None:
    queue = Noted(3)
    with (
        FakeServer(faults=lambda body, _: Fault("raw", message="<p>Welcome")) as server,
        pytest.raises(
            ExternalError, match=r"failed 6 times .*: not a completion: no JSON, it begins with <p>Welcome; s"
        ),
    ):
        connect(server, retries=5).serve(queue)
    assert queue.notes == [
        f"repeating what failed 4 times at {server.url}: not a completion: no JSON, it begins with <p>Welcome"
    ]


def test_a_page_of_a_proxy_is_told_by_its_title() -> None:
    page = sending(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE)
    with (
        FakeServer(faults=lambda body, _: page) as server,
        pytest.raises(ExternalError, match=": status 502: 502 Bad Ga"),
    ):
        complete(connect(server, retries=0), [ask(0)])


@pytest.mark.parametrize(
    "listing",
    [
        *[b"HTTP/1.1 200 OK\r\n\r\n" + PAGE, HEAD + b"\r\n{}", HEAD + b"Content-Encoding: gzip\r\n\r\nnot at all"],
        HEAD + b"\r\n" + b"x" * (12 << 20),
    ],
    ids=range(4),
)
def test_what_lists_no_models_is_told(listing: bytes) -> None:
    sent = listing.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(listing.partition(b"\r\n\r\n")[2]), 1)
    with FakeServer(listing=sending(sent)) as server, pytest.raises(InputError, match="does not list models"):
        connect(server).check_ready()
