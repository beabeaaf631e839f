"""Servers that hang, trickle, flood or come late: an answer or one line within a stated time and memory."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, ExternalError, InputError
from curate.generators import VLLMServer, body, failures, keepers
from curate.generators import openai_client as client
from curate.generators.failures import destination, pause_seconds, wanted_seconds
from curate.generators.payloads import completion_of
from curate.generators.request_store import RequestStore, complete
from curate.generators.requests import Completion, Request, Sampling
from tests.fixtures.server import FakeServer, Fault, asked

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(client, "LONGEST_BACKOFF", 0.02)
    monkeypatch.setattr(keepers, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(keepers, "FIRST_WAIT", 0.3)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(number: int, **sampling: Any) -> Request:
    return Request(f"question {number}", Sampling(**{"max_tokens": 50, **sampling}), 3, number)


def connect(server: FakeServer, **more: Any) -> VLLMServer:
    return VLLMServer(**{"model": server.model, "url": server.url, **more})


def sending(*parts: bytes, forever: bytes | None = None, seconds: float = 0.0) -> Fault:
    def sent() -> Iterable[bytes]:
        return itertools.chain(parts, itertools.repeat(forever)) if forever is not None else parts

    return Fault("bytes", sent=sent, seconds=seconds)


def answer(text: str = "42", **more: Any) -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    return json.dumps({"choices": [{"text": text, "finish_reason": "stop"}], "usage": usage, **more}).encode()


def whole(content: bytes, *headers: str) -> Fault:
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return sending(HEAD + lines + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content)


class Noted:
    """A queue that keeps what it is told."""

    def __init__(self, count: int) -> None:
        self.waiting = [ask(k) for k in range(count)]
        self.completions: dict[int, Completion] = {}
        self.notes: list[str] = []

    def take(self, most: int) -> list[Request]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        self.completions[request.index] = completion

    def note(self, text: str) -> None:
        self.notes.append(text)


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


# -- memory -----------------------------------------------------------------------------------------------------------

FLOODS = {
    "body": sending(HEAD + b"\r\n", forever=b"x" * 65536),
    "chunks": sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", forever=b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "a large length": sending(HEAD + b"Content-Length: %d\r\n\r\n" % 10**15, forever=b"x" * 65536),
    "bomb": whole(gzip.compress(b"x" * 200_000_000, 1), "Content-Encoding: gzip"),
    "headers": sending(HEAD, forever=b"X-More: and more\r\n" * 100),
    "a header": sending(HEAD + b"X-Long: ", forever=b"x" * 65536),
    "status": sending(b"HTTP/1.1 200 ", forever=b"x" * 65536),
    "an error": sending(b"HTTP/1.1 500 X\r\n\r\n", forever=b"x" * 65536),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_answers_without_end_take_bounded_memory_and_time(kind: str) -> None:
    with FakeServer(faults=lambda body, _: FLOODS[kind]) as server:
        generator, started = connect(server, retries=1, request_timeout=5), time.monotonic()
        tracemalloc.start()
        try:
            with pytest.raises(
                ExternalError, match=r"failed 2 times on one request.* run the same command again"
            ) as caught:
                complete(generator, [ask(k) for k in range(4)])
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 30 << 20
    assert time.monotonic() - started < 30
    assert len(str(caught.value)) < 500


def test_all_answers_together_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MOST_HELD", 2 << 20)
    largest: list[int] = []
    read = body.Bodies.read

    async def watched(self: body.Bodies, *arguments: Any, **more: Any) -> bytes:
        try:
            return await read(self, *arguments, **more)
        finally:
            largest.append(self.held)

    monkeypatch.setattr(body.Bodies, "read", watched)
    slow = sending(HEAD + b"\r\n", forever=b"x" * 65536, seconds=0.001)
    with (
        FakeServer(faults=lambda body, _: slow) as server,
        pytest.raises(ExternalError, match=r"answers of more than 2 MiB at a time|an answer of more than"),
    ):
        complete(connect(server, retries=2), [ask(k) for k in range(30)])
    assert max(largest) <= (2 << 20) + (1 << 18)
    assert largest[-1] == 0, "what was read is given back"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "X-GZIP", "identity"])
def test_a_body_that_is_compressed_unasked_is_understood(coding: str) -> None:
    packed = {"deflate": zlib.compress, "identity": bytes}.get(coding, gzip.compress)(answer())
    with FakeServer(faults=lambda body, _: whole(packed, f"Content-Encoding: {coding}")) as server:
        assert [each.text for each in complete(connect(server), [ask(0)])] == ["42"]
    assert {each["accept-encoding"] for each in server.headers} == {"identity"}


def test_a_compression_that_is_not_known_is_one_line() -> None:
    with (
        FakeServer(faults=lambda body, _: whole(b"\x00" * 9, "Content-Encoding: br")) as server,
        pytest.raises(ExternalError, match=r"compresses its answers \(br\), which was not asked for; switch that off"),
    ):
        complete(connect(server), [ask(0)])
    assert len(server.requests) == 1


# -- texts that are longer than they may be ---------------------------------------------------------------------------


def ignoring(text: str, tokens: int | None, **usage: Any) -> bytes:
    counted = {} if tokens is None else {"usage": {"prompt_tokens": 3, "completion_tokens": tokens, **usage}}
    return json.dumps({"choices": [{"text": text, "finish_reason": "stop"}], **counted}).encode()


def test_texts_far_beyond_max_tokens_are_cut_to_their_share_and_told_once() -> None:
    content = ignoring("one two three 12345 " * 500, 2500)
    queue = Noted(4)
    with FakeServer(faults=lambda body, _: whole(content)) as server:
        connect(server).serve(queue)
    for each in queue.completions.values():
        assert each.finish_reason == "length"
        assert each.completion_tokens == 2500, "that is what was paid for"
        assert 180 < len(each.text) <= 200
    assert queue.notes == ["the server does not heed max_tokens; texts that are far longer are cut"]


@settings(max_examples=300, deadline=None)
@given(st.text("ab 1234567890.,é\n", max_size=3000), st.integers(1, 50), st.none() | st.integers(1, 3000))
def test_a_text_is_cut_only_where_it_must_be_and_never_inside_a_number(
    text: str, most: int, tokens: int | None
) -> None:
    found = completion_of(ignoring(text, tokens), most)
    kept = found.completion.text
    assert text.startswith(kept)
    assert len(kept) <= 128 * most
    assert found.cut == (kept != text) == (found.completion.finish_reason == "length")
    if len(text) <= 128 * most and (tokens is None or tokens <= 2 * most):
        assert kept == text
    if found.cut and kept:
        assert not kept[-1].isdigit()


def test_reasoning_is_no_part_of_the_text() -> None:
    hidden = {"completion_tokens_details": {"reasoning_tokens": 990}}
    assert completion_of(ignoring("It is 42.", 1000, **hidden), 20).completion.text == "It is 42."
    for odd in (None, [], {"reasoning_tokens": "many"}, {"reasoning_tokens": -1}):
        assert (
            completion_of(ignoring("It is 42.", 10, completion_tokens_details=odd), 20).completion.text == "It is 42."
        )


# -- anything at all --------------------------------------------------------------------------------------------------

PAGE = b"<!doctype html><html><head><title>502 Bad\n Gateway</title></head><body>" + b"<p>so sorry</p>" * 500
LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 999 Odd\r\n",
        b"HTTP/9.9 -1 \xff\r\n",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
    ]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 7\r\n",
            b"Content-Length: -7\r\n",
            b"Content-Length: 7, 8\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Encoding: gzip\r\n",
            b"Content-Encoding: zstd, br\r\n",
            b"Content-Type: text/html; charset=\xff\r\n",
            b"Set-Cookie: \x00=\x01\r\n",
            b"Retry-After: NaN\r\n",
            b"Connection: upgrade\r\nUpgrade: websocket\r\n",
            b"no colon\r\n",
        ]
    ),
    max_size=3,
)
BODIES = st.sampled_from(
    [
        *[
            answer(),
            answer()[:20],
            b"",
            b"null",
            b"[]",
            b"{}",
            b"\xff\xfe",
            PAGE,
            b"[" * 50_000,
            b"0\r\n\r\n",
            b"zz\r\n",
        ],
        answer(choices=[]),
        answer(choices=None),
        answer(choices=[{"message": None, "finish_reason": "stop"}]),
        answer(choices=[{"message": {"content": None}, "finish_reason": "stop"}] * 5),
        answer(choices=[{"text": "a", "finish_reason": "stop"}] * 5),
        answer(usage={"completion_tokens": 10**400, "prompt_tokens": "3"}),
        answer(model="another-model"),
        b'{"choices": [{"text": "' + b"\\ud800" * 100 + b'", "finish_reason": "stop"}]}',
    ]
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, HEADERS, BODIES)
def test_whatever_a_server_sends_is_an_answer_or_one_line(line: bytes, headers: list[bytes], content: bytes) -> None:
    sent = [line + b"".join(headers) + b"\r\n" + content]
    fault = Fault("bytes", sent=lambda: sent)
    with FakeServer(faults=lambda body, _: fault if asked(body) == "question 1" else None) as server:
        queue, errors = Noted(3), list[CurateError]()
        try:
            connect(server, retries=1, request_timeout=0.05, patience=0.1, outage_timeout=0.2).serve(queue)
        except (InputError, ExternalError) as error:
            errors.append(error)
    assert all(str(error).isprintable() and len(str(error)) < 700 for error in errors)
    assert errors or len(queue.completions) == 3
    others = {queue.completions[k].text for k in queue.completions if k != 1}
    assert others <= {"about question 0", "about question 2"}


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
