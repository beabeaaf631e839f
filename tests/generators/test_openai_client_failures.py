"""Servers that hang, trickle, flood or come late: an answer or one line within a stated time and memory."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer, responses
from curate.generators import openai_client as client
from curate.generators import server as server_process
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from tests.fixtures.completions import ask, connect
from tests.fixtures.raw_answers import HEAD, PAGE, Noted, answer, sending
from tests.fixtures.server import FakeServer, Fault, asked

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(client, "LONGEST_BACKOFF", 0.02)
    monkeypatch.setattr(server_process, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(server_process, "FIRST_WAIT", 0.3)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


# -- patience ----------------------------------------------------------------------------------------------------------
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
    assert (generator.retries + 1) * responses.LONGEST_PAUSE <= 1800


# -- Retry-After -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", ["1e12", "3600", "Thu, 08 Aug 2058 03:06:45 GMT"])
def test_a_huge_retry_after_is_told_and_bounded(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "LONGEST_PAUSE", 0.3)
    monkeypatch.setattr(client, "_SHORT_PAUSE", 0.1)
    queue, started = Noted(5), time.monotonic()
    busy = lambda body, attempt: None if attempt else Fault("status", 429, headers={"Retry-After": header})  # noqa: E731
    with FakeServer(faults=busy) as server:
        connect(server).serve(queue)
    assert len(queue.completions) == 5
    assert 0.3 < time.monotonic() - started < 30
    assert 1 <= len(queue.notes) <= 3, "not one for each request"
    for note in queue.notes:
        assert re.fullmatch(r"http\S+ is rate limiting for \d{4,13} s; waiting, asking again in 0 s", note)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_only_tells_to_wait_is_given_up(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 requests take turns at one server: each alone would have its 100 retries only after hours."""
    monkeypatch.setattr(responses, "LONGEST_PAUSE", 0.2)
    busy, started = Fault("status", status, headers={"Retry-After": "3600"}), time.monotonic()
    with FakeServer(faults=lambda body, attempt: busy) as server:
        with pytest.raises(
            ExternalError, match=rf"told to wait for 1 s without an answer, .*status {status}.*same command"
        ):
            connect(server, retries=100, patience=1.0).serve(Noted(40))
        assert 1.0 <= time.monotonic() - started < 20
        server.faults = lambda body, attempt: busy if attempt < 2 else None
        queue = Noted(10)
        connect(server, patience=30.0).serve(queue)
        assert len(queue.completions) == 10, "one that answers now and then is not"


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


def test_a_server_without_memory_is_asked_less_at_a_time_and_given_up_with_a_remedy() -> None:
    full = Fault("status", 500, "CUDA out of memory. Tried to allocate 2.00 GiB.")
    queue = Noted(40)
    with FakeServer(faults=lambda body, attempt: None if attempt else full) as server:
        connect(server).serve(queue)
        assert len(queue.completions) == 40
        assert f"{server.url} ran out of memory; asking less at a time" in queue.notes
        server.faults = lambda body, attempt: full
        with pytest.raises(ExternalError, match=r"CUDA out of memory.* a smaller --max-num-seqs .*same command"):
            complete(connect(server, retries=1), [ask(100)])


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
