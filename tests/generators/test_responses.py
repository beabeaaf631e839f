"""Answers without end, compressed, too long or of any form: one answer or one line, in bounded time and memory."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, ExternalError, InputError
from curate.generators import openai_client as client
from curate.generators import responses
from curate.generators import server as server_process
from curate.generators.request_queue import complete
from curate.generators.responses import pause_seconds, redirect_target, wanted_seconds
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


def whole(content: bytes, *headers: str) -> Fault:
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return sending(HEAD + lines + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content)


# -- memory ------------------------------------------------------------------------------------------------------------
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
                ExternalError, match=r"failed 2 times on one request.* rerun the same command"
            ) as caught:
                complete(generator, [ask(k) for k in range(4)])
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 30 << 20
    assert time.monotonic() - started < 30
    assert len(str(caught.value)) < 500


def test_all_answers_together_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MOST_HELD_BYTES", 2 << 20)
    largest: list[int] = []
    read = responses.BodyReader.read

    async def watched(self: responses.BodyReader, *arguments: Any, **more: Any) -> bytes:
        try:
            return await read(self, *arguments, **more)
        finally:
            largest.append(self.held)

    monkeypatch.setattr(responses.BodyReader, "read", watched)
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


# -- texts that are longer than they may be ----------------------------------------------------------------------------


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


# -- Retry-After and redirects -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.one_of(st.none(), st.text(max_size=40), st.floats().map(str), st.integers().map(str)))
def test_whatever_retry_after_says_the_pause_is_bounded(header: str | None) -> None:
    assert 0 <= pause_seconds(header) <= responses.LONGEST_PAUSE
    assert 0 <= wanted_seconds(header) < float("inf")


@given(st.text(max_size=60))
def test_whatever_location_says_is_a_text(location: str) -> None:
    assert isinstance(redirect_target(location), str)
    assert redirect_target("http://[not-an-address") == "an address that cannot be read"


@pytest.mark.parametrize(
    ("header", "seconds"), [("1e9", 120), ("-3", 0), ("soon", 0), ("inf", 0), ("nan", 0), ("1e400", 0), (None, 0)]
)
def test_retry_after_is_capped(header: str | None, seconds: float) -> None:
    assert responses.pause_seconds(header) == seconds


def test_the_target_of_a_redirect_can_be_typed() -> None:
    assert redirect_target("http://user:secret@host:8001/v1?key=secret") == "http://host:8001/v1"
