"""Completions from servers: every request answered once and in its place, whatever the servers do meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curate.checks import check_component
from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer, failures, keepers
from curate.generators import event_loop as pump
from curate.generators import load_balancing as endpoints
from curate.generators import openai_client as client
from curate.generators.payloads import LONGEST_MESSAGE, Answer, Served, completion_of, message_of, speaks_for
from curate.generators.request_store import RequestStore, complete
from curate.generators.requests import Completion, Generator, Prompt, Request, Sampling
from curate.generators.room import fills_context
from curate.seeds import derive_seed
from tests.fixtures.server import FakeServer, Fault, asked

KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(keepers, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(keepers, "FIRST_WAIT", 0.2)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(number: int, prompt: Prompt | None = None, **sampling: Any) -> Request:
    return Request(prompt or f"question {number}", Sampling(**{"max_tokens": 50, **sampling}), seed=3, index=number)


def many(count: int) -> list[Request]:
    return [ask(k) for k in range(count)]


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


def connect(server: FakeServer, **more: Any) -> VLLMServer:
    return VLLMServer(**{"model": server.model, "url": server.url, **more})


def failing(
    error: type[Exception], generator: VLLMServer, requests: list[Request], store: RequestStore | None = None
) -> str:
    """The message with which asking fails."""
    with pytest.raises(error) as caught:
        complete(generator, requests, store)
    message = str(caught.value)
    assert message.isprintable()
    return message


def first_time(fault: Fault, every: int = 1) -> Callable[[dict[str, Any], int], Fault | None]:
    """A fault of every n-th request, when it comes for the first time."""
    return lambda body, attempt: fault if attempt == 0 and int(asked(body).split()[-1]) % every == 0 else None


# -- what is sent and what comes back ---------------------------------------------------------------------------------


def test_it_is_a_generator_and_a_component() -> None:
    generator = VLLMServer(model="m", url="http://127.0.0.1:1")
    assert isinstance(generator, Generator)
    check_component(generator)
    check_component(VLLMServer(model="m", command=("a", "b"), arguments=("--dtype", "float32")))


def test_completions_come_in_order_though_answers_do_not() -> None:
    with FakeServer(faults=lambda body, _: Fault("slow", seconds=body["seed"] % 50 / 1000)) as server:
        assert texts(complete(connect(server), many(60))) == [f"about question {k}" for k in range(60)]


def test_the_sampling_of_a_request_reaches_the_server() -> None:
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "max_tokens": 7, "stop": ("\n", "END")}
    with FakeServer() as server:
        complete(connect(server), [ask(5, **sampling)])
    body = server.requests[0]
    assert {name: body[name] for name in sampling} == {**sampling, "stop": ["\n", "END"]}
    assert body["seed"] == derive_seed(3, 5)
    assert -(2**63) <= body["seed"] < 2**63
    assert body["model"] == "fake-model"
    assert body["prompt"] == "question 5"


def test_vllm_is_told_what_its_own_defaults_would_override_and_others_get_nothing_they_do_not_know() -> None:
    known = {"model", "prompt", "temperature", "top_p", "max_tokens", "seed"}
    for owner, extra in (("vllm", {"top_k", "min_p", "repetition_penalty"}), ("openai", set())):
        with FakeServer(owner=owner) as server:
            complete(connect(server), [ask(0)])
        assert set(server.requests[0]) == known | extra


MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})


@pytest.mark.parametrize(
    ("prompt", "template", "path", "sent"),
    [
        (MESSAGES, "chat", "/v1/chat/completions", list(MESSAGES)),
        (MESSAGES, "auto", "/v1/chat/completions", list(MESSAGES)),
        (MESSAGES, "plain", "/v1/completions", "Be brief.\n\nWhy?"),
        ("Why?", "chat", "/v1/completions", "Why?"),
    ],
)
def test_messages_go_through_the_template_and_text_as_it_is(prompt: Any, template: Any, path: str, sent: Any) -> None:
    with FakeServer(lambda body: "Because.") as server:
        assert texts(complete(connect(server, template=template), [ask(0, prompt)])) == ["Because."]
    assert server.paths[path] == 1
    assert server.requests[0].get("messages", server.requests[0].get("prompt")) == sent


def test_lengths_reasons_and_counts_come_back() -> None:
    with FakeServer(lambda body: ("cut o", "length")) as server:
        (found,) = complete(connect(server), [ask(0)])
    assert found == Completion("cut o", "length", len("question 0"), 5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, Completion("", "stop", 3, 4)),
        ({"choices": [{"text": "a", "finish_reason": "tool_calls"}]}, Completion("a", "stop", 3, 4)),
        (
            {"choices": [{"text": "a", "finish_reason": "content_filter"}]},
            Completion("", "refused", 3, 4, refusal="the server's content filter withheld it"),
        ),
        (
            {"choices": [{"text": "Sorry \ud800, \udc00 \U0001f40d", "finish_reason": "stop"}]},
            Completion("Sorry \ufffd, \ufffd \U0001f40d", "stop", 3, 4),
        ),
    ],
)
def test_unusual_completions(answer: dict[str, Any], expected: Completion) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    content = json.dumps({**answer, "usage": usage}).encode()
    assert completion_of(content, 50) == Answer(expected, None, True)


UNSAID = [
    *["null", "[]", "3", '"many"', "{}", '{"prompt_tokens": 2}'],
    *[f'{{"completion_tokens": {n}}}' for n in ("null", "-1", "1.5", "1e400", "true", '"7"', "2147483649", "9" * 9000)],
    '{"completion_tokens": 0}',  # though there is text
]


@pytest.mark.parametrize("usage", UNSAID, ids=range(len(UNSAID)))
def test_tokens_that_a_server_does_not_count_are_charged_at_their_most_and_it_is_said_once(usage: str) -> None:
    content = f'{{"choices": [{{"text": "a", "finish_reason": "stop"}}], "usage": {usage}}}'
    queue = Charged(5)
    with FakeServer(faults=lambda body, _: Fault("raw", message=content)) as server:
        connect(server).serve(queue)
    assert [each.completion_tokens for each in queue.completions] == [50] * 5
    assert {each.prompt_tokens for each in queue.completions} == {2 if "prompt_tokens" in usage else 0}
    told = [note for note in queue.notes if "max_tokens is assumed" in note]
    assert told == ["the server does not say how many tokens it used; max_tokens is assumed"]


def test_no_usage_at_all_is_charged_too() -> None:
    answer = completion_of(b'{"choices": [{"text": "", "finish_reason": "length"}]}', 7)
    assert answer == Answer(Completion("", "length", 0, 7), None, False)
    assert completion_of(
        b'{"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": 0}}', 7
    ) == (Answer(Completion("", "stop", 0, 0), None, True))


@pytest.mark.parametrize(
    ("asked_for", "served", "answered", "fine"),
    [
        ("gpt-4o", "gpt-4o", "gpt-4o-2024-08-06", True),
        ("openai/gpt-4o", "gpt-4o", "OpenAI/gpt-4o", True),
        ("/models/small", "small", "/models/small/", True),
        ("gpt-4o", "gpt-4o", "gpt-4", False),
        ("gpt-4", "gpt-4", "gpt-4o", False),
        ("m", "m", "other", False),
    ],
)
def test_an_answer_speaks_for_the_model_that_was_asked_or_a_version_of_it(
    asked_for: str, served: str, answered: str, fine: bool
) -> None:
    assert speaks_for(answered, Served(served), asked_for) == fine


def test_an_answer_of_another_model_is_not_kept(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    whole: dict[str, Any] = {"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    for name in ("an/other\x1b[1m model", "fake-model-2025", None, 3, ""):
        content = json.dumps({**whole, "model": name})
        with FakeServer(faults=lambda body, _: Fault("raw", message=content)) as server:  # noqa: B023
            if name == "an/other\x1b[1m model":
                message = failing(InputError, connect(server), [ask(0)])
                assert "answered as an/other model, not as fake-model" in message
                assert server.paths["/v1/completions"] == 1
            else:
                assert texts(complete(connect(server), [ask(0)], store)) == ["a"]
            assert store.count() == (0 if name == "an/other\x1b[1m model" else 1)


@pytest.mark.parametrize(
    "content",
    [
        *["", "[]", "null", "{}", '{"choices": []}', '{"choices": [[]]}', '{"choices": 3}', "[" * 100_000],
        '{"choices": [{"text": "a"}]}',
        '{"choices": [{"text": 1, "finish_reason": "stop"}]}',
        '{"choices": [{"text": "a", "finish_reason": "abort"}]}',
        '{"choices": [{"text": "a", "finish_reason": ["stop"]}]}',
    ],
    ids=range(12),
)
def test_what_is_no_completion_is_a_value_error(content: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        completion_of(content.encode(), 50)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"error": {"message": "no\\u001b[31m way\\nat all"}}', "no way at all"),
        (b'{"detail": [{"msg": "field required"}]}', '[{"msg": "field required"}]'),
        (b'{"error": "plainly"}', "plainly"),
        (b"<html>\xff" + b"x" * 1000, None),
        (b"", "no reason given"),
        (b"[" * 100_000, None),
    ],
)
def test_messages_of_servers_become_one_line(content: bytes, expected: str | None) -> None:
    message = message_of(content)
    assert message.isprintable()
    assert len(message) <= LONGEST_MESSAGE
    assert expected in (None, message)


def test_a_prompt_that_is_too_long_is_refused_and_the_others_are_answered(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    requests = [ask(0), ask(1, "long " * 100), ask(2)]
    with FakeServer(context=200) as server:
        found = complete(connect(server), requests, store)
    assert [each.finish_reason for each in found] == ["stop", "refused", "stop"]
    assert "maximum context length is 200" in str(found[1].refusal)
    assert store.count() == 2


def test_more_tokens_than_the_context_has_are_not_asked_for() -> None:
    with FakeServer(context=100) as server:
        complete(connect(server), [ask(0, max_tokens=4000)])
    assert server.requests[0]["max_tokens"] == 100


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 2048 tokens. However, you requested 5000 tokens",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "The decoder prompt (length 4000) is longer than the maximum model length of 2048.",
        "context_length_exceeded",
    ],
)
def test_wordings_of_a_prompt_that_is_too_long(message: str) -> None:
    assert fills_context(400, message)
    assert not fills_context(400, "max_tokens=5000 cannot be greater than max_model_len=2048")


# -- faults that pass -------------------------------------------------------------------------------------------------

PASSING = [
    Fault("status", 500),
    Fault("status", 502),
    Fault("status", 429),
    Fault("status", 503, headers={"Retry-After": "0.05"}),
    Fault("drop"),
    Fault("truncate"),
    Fault("close_midway"),
    Fault("raw", message="not json"),
    Fault("raw", message='{"choices": [{"text": "a", "finish_reason": null}]}'),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind} {fault.status}")
def test_what_fails_once_is_asked_again_and_nothing_is_paid_twice(fault: Fault) -> None:
    with FakeServer(faults=first_time(fault, every=3)) as server:
        assert texts(complete(connect(server), many(40))) == [f"about question {k}" for k in range(40)]
    assert set(server.answered.values()) == {1}
    assert sorted(server.arrived.values()) == [1] * 26 + [2] * 14


def test_a_request_that_hangs_is_asked_again() -> None:
    with FakeServer(faults=first_time(Fault("hang"), every=4)) as server:
        assert texts(complete(connect(server, request_timeout=0.5), many(8)))[4] == "about question 4"


def test_a_server_that_is_slow_under_load_is_asked_less_at_a_time() -> None:
    # Each request takes as long as there are others: at the first window all of them are late, however often repeated.
    server = FakeServer(faults=lambda body, _: Fault("slow", seconds=0.03 * server.under_way))
    with server:
        found = texts(complete(connect(server, request_timeout=0.3, retries=6), many(64)))
    assert found == [f"about question {k}" for k in range(64)]
    assert sum(server.arrived.values()) < 4 * 64, "most of the work was thrown away"


def test_a_request_fails_a_bounded_number_of_times() -> None:
    with FakeServer(faults=lambda body, _: Fault("status", 500)) as server:
        message = failing(ExternalError, connect(server, retries=3), [ask(0)])
    assert "failed 4 times on one request" in message
    assert "the engine is unwell" in message
    assert server.paths["/v1/completions"] == 4


def test_retry_after_is_honoured() -> None:
    for header in ("0.4", formatdate(time.time() + 2, usegmt=True)):
        with FakeServer(faults=first_time(Fault("status", 429, headers={"Retry-After": header}))) as server:
            complete(connect(server), [ask(0)])
            assert server.times[1] - server.times[0] > 0.35


@pytest.mark.parametrize(
    ("header", "seconds"), [("1e9", 120), ("-3", 0), ("soon", 0), ("inf", 0), ("nan", 0), ("1e400", 0), (None, 0)]
)
def test_retry_after_is_capped(header: str | None, seconds: float) -> None:
    assert failures.pause_seconds(header) == seconds


# -- how much at a time -----------------------------------------------------------------------------------------------


def test_there_are_never_more_requests_in_flight_than_connections() -> None:
    with FakeServer(delay=0.02) as server:
        complete(connect(server, connections=8), many(64))
    assert server.most_under_way == 8
    assert server.most_connections <= 9  # the first question, for the model, included


def test_concurrency_grows_while_the_server_copes() -> None:
    with FakeServer(delay=0.05) as server:
        complete(connect(server), many(600))
    assert server.most_under_way > 2 * endpoints.FIRST_WINDOW


def test_concurrency_settles_below_what_the_server_refuses() -> None:
    with FakeServer(delay=0.02, most=10) as server:
        assert len(complete(connect(server, retries=50), many(300))) == 300
    refused = sum(server.arrived.values()) - sum(server.answered.values())
    assert set(server.answered.values()) == {1}
    assert refused < 300


def test_one_cut_for_all_that_were_under_way_together() -> None:
    endpoint = endpoints.Endpoint("", window=64)
    for _ in range(40):
        endpoint.overloaded(asked_at=1.0, pause=0)
    assert endpoint.window == 32
    endpoint.overloaded(asked_at=time.monotonic(), pause=0)
    assert endpoint.window == 16


class Pulled:
    """A queue that notes threads and sizes, grades slowly, and has a follow-up to every third completion."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        self.waiting, self.seconds = many(count), seconds
        self.threads: set[int] = set()
        self.largest = self.under_way = 0
        self.done_: list[str] = []
        self.notes: list[str] = []

    def take(self, most: int) -> list[Request]:
        self.threads.add(threading.get_ident())
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        self.under_way += len(taken)
        self.largest = max(self.largest, self.under_way)
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        self.threads.add(threading.get_ident())
        self.under_way -= 1
        time.sleep(self.seconds)
        self.done_.append(completion.text)
        number = int(str(request.prompt).split()[1])
        if number < 1000 and number % 3 == 0:
            self.waiting.append(ask(1000 + number))

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_follow_ups_are_asked_too_and_one_thread_alone_calls_the_queue() -> None:
    queue = Pulled(30)
    with FakeServer() as server:
        connect(server).serve(queue)
    assert sorted(queue.done_) == sorted([f"about question {k}" for k in [*range(30), *range(1000, 1030, 3)]])
    assert len(queue.threads) == 1
    assert threading.get_ident() not in queue.threads


def test_what_is_taken_is_bounded_and_slow_grading_does_not_starve_the_server() -> None:
    queue = Pulled(100, seconds=0.01)
    with FakeServer(delay=0.1) as server:
        started = time.monotonic()
        connect(server, connections=20).serve(queue)
    assert queue.largest <= 40
    assert time.monotonic() - started < 2.2  # 134 x 0.01 s of grading, 7 rounds of 0.1 s: side by side


def test_it_works_inside_a_running_event_loop() -> None:
    async def notebook() -> list[str]:
        return texts(complete(connect(server), many(3)))

    with FakeServer() as server:
        assert asyncio.run(notebook()) == ["about question 0", "about question 1", "about question 2"]


class Charged(Pulled):
    """Keeps the completions."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.waiting = [ask(k + 1000) for k in range(count)]
        self.completions: list[Completion] = []

    def done(self, request: Request, completion: Completion) -> None:
        super().done(request, completion)
        self.completions.append(completion)


class Full(Pulled):
    def done(self, request: Request, completion: Completion) -> None:
        raise ExternalError("the disk is full")


def test_what_the_queue_raises_comes_out() -> None:
    with FakeServer() as server, pytest.raises(ExternalError, match="the disk is full"):
        connect(server).serve(Full(30))
    assert threading.active_count() < 10


# -- several servers, and none ----------------------------------------------------------------------------------------


def test_load_is_spread_and_a_dead_server_is_left_out_and_taken_back() -> None:
    with FakeServer(delay=0.01) as one, FakeServer(delay=0.01) as two:
        generator = VLLMServer(model="fake-model", url=(one.url, two.url), connections=8)
        queue = Pulled(600)
        thread = threading.Thread(target=generator.serve, args=(queue,))
        thread.start()
        _until(lambda: len(queue.done_) > 100)
        assert min(len(one.requests), len(two.requests)) > 20
        two.stop()
        _until(lambda: len(queue.done_) > 300)
        before = len(two.requests)
        two.start()
        thread.join()
        assert len(two.requests) > before
    assert len(queue.done_) == 800
    assert len(set(queue.done_)) == 800


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_server_that_comes_back_goes_on_where_it_was() -> None:
    with FakeServer(delay=0.01) as server:
        queue = Pulled(200)
        thread = threading.Thread(target=connect(server, connections=4).serve, args=(queue,))
        thread.start()
        _until(lambda: len(queue.done_) > 20)
        server.stop()
        time.sleep(0.3)
        server.start()
        thread.join()
    assert len(queue.done_) == 267


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


def test_a_server_with_another_model_is_refused_with_both_names() -> None:
    with FakeServer(model="other/model") as server:
        message = failing(InputError, VLLMServer(model="my/model", url=server.url), [ask(0)])
    assert "serves other/model, not my/model" in message
    assert not server.requests


@pytest.mark.parametrize("served", ["org/my-model", "my-model"])
def test_a_model_may_be_served_by_the_last_part_of_its_name(served: str) -> None:
    with FakeServer(model=served) as server:
        assert len(complete(VLLMServer(model="org/my-model", url=server.url), [ask(0)])) == 1
    assert server.requests[0]["model"] == served


def test_what_is_no_such_server_is_said() -> None:
    with FakeServer() as server:
        message = failing(InputError, connect(server, url=server.url + "/elsewhere"), [ask(0)])
    assert "does not list models (status 404)" in message


# -- what no repeat can mend ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 422, 418])
def test_a_request_that_is_not_accepted_is_the_users_turn(status: int) -> None:
    with FakeServer(faults=lambda body, _: Fault("status", status, "top_p must be\n\x1b[1m in (0, 1]")) as server:
        message = failing(InputError, connect(server), [ask(0)])
    assert f"(status {status}): top_p must be in (0, 1]" in message
    assert server.paths["/v1/completions"] == 1


def test_what_is_under_way_when_a_request_fails_is_kept(tmp_path: Path) -> None:
    """Its answers may be paid for; no more is asked."""
    refused = Fault("status", 400, "top_p must be in (0, 1]")
    store = RequestStore(tmp_path / "requests.sqlite")
    slow = Fault("slow", seconds=0.5)
    with FakeServer(faults=lambda body, _: refused if asked(body) == "question 0" else slow) as server:
        failing(InputError, connect(server, connections=8), many(100), store)
        assert store.count() == sum(server.answered.values()) == len(server.requests) - 1
        assert 1 <= store.count() < 50


def test_what_hangs_when_a_request_fails_is_waited_for_a_little_and_an_interrupt_ends_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = Fault("status", 400, "top_p must be in (0, 1]")
    hanging: dict[str, Fault | None] = {"question 0": refused, "question 1": Fault("hang")}
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(faults=lambda body, _: hanging.get(asked(body))) as server:
        monkeypatch.setattr(pump, "GRACE", 0.5)
        began = time.monotonic()
        failing(InputError, connect(server, connections=8), many(4), store)
        assert 0.4 < time.monotonic() - began < 10
        assert store.count() == 2
        monkeypatch.setattr(pump, "GRACE", 1000.0)
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                connect(server, connections=8).serve(Pulled(4))
        finally:
            signal.signal(signal.SIGINT, before)


def test_no_chat_template_names_the_remedy() -> None:
    with FakeServer(chat_template=False) as server:
        assert "set template: plain" in failing(InputError, connect(server), [ask(0, MESSAGES)])
        assert complete(connect(server, template="plain"), [ask(0, MESSAGES)])


def test_redirects_are_not_followed() -> None:
    with (
        FakeServer() as other,
        FakeServer(faults=lambda body, _: Fault("redirect", message=other.url + "/x")) as server,
    ):
        message = failing(ExternalError, connect(server), [ask(0)])
        assert "redirects to http://127.0.0.1/x, which is not followed" in message
        assert not other.headers


# -- keys -------------------------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(key=KEY) as server:
        generator = connect(server, api_key_variable="MY_KEY")
        message = failing(InputError, generator, [ask(0)])
        assert "there is none in the environment variable MY_KEY" in message
        monkeypatch.setenv("MY_KEY", KEY)
        assert len(complete(generator, [ask(0)])) == 1
        monkeypatch.setenv("MY_KEY", "wrong-" + KEY)
        message = failing(InputError, generator, [ask(0)])
    assert "does not accept the key in the environment variable MY_KEY (status 401)" in message
    assert KEY not in message + repr(generator) + generator.model_dump_json() + generator.identity()


def test_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\r\n\t")
    with FakeServer(key=KEY) as server:
        assert len(complete(connect(server), [ask(0)])) == 1
        monkeypatch.setenv("OPENAI_API_KEY", " \n")
        assert "there is none in the environment variable" in failing(InputError, connect(server), [ask(0)])


@pytest.mark.parametrize("inside", ["\n", "\r\nX-Header: 1", "\x7f", "\x1b[31m", "\u200b", "é", "\udcff"])
def test_a_key_that_cannot_be_sent_is_named_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}{inside}{KEY}")
    generator = VLLMServer(model="m", url="http://127.0.0.1:9", api_key_variable="MY_KEY")
    for use in (generator.check_ready, lambda: generator.serve(Pulled(1))):
        with pytest.raises(InputError, match="the key in the environment variable MY_KEY holds a char") as caught:
            use()
        assert KEY not in str(caught.value)


def test_a_key_in_the_servers_own_words_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for status in (400, 500):
        with FakeServer(faults=lambda body, _: Fault("status", status, f"bad key {KEY}!")) as server:  # noqa: B023
            message = failing(InputError if status == 400 else ExternalError, connect(server, retries=0), [ask(0)])
        assert "bad key ***!" in message
        assert KEY not in message


def test_a_key_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = VLLMServer(model="m", url=("http://127.0.0.1:9", "http://10.255.255.1:8000"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    message = failing(InputError, generator, [ask(0)])
    assert "http://10.255.255.1:8000 is not encrypted" in message
    assert KEY not in message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"])
def test_this_machine_and_https_are_safe(host: str) -> None:
    endpoints.check_key_travels_safely(f"http://{host}:80", "K")
    endpoints.check_key_travels_safely("https://example.org", "K")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        (" https://h/api/v1/ ", "https://h/api"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses_are_brought_into_one_form(url: str, expected: str) -> None:
    assert VLLMServer(model="m", url=url).url == expected
    assert VLLMServer(model="m", url=(url, url)).url == (expected,)


@pytest.mark.parametrize(
    "url",
    [
        *[f"http://user:{KEY}@h:8000", f"https://{KEY}@h", f"https://h/v1?key={KEY}", f"https://h#{KEY}"],
        *[f"ftp://h/{KEY}", KEY, f"http:///{KEY}", f"http://h:port/{KEY}", f"file:///etc/{KEY}", ""],
    ],
)
def test_addresses_that_cannot_be_used_are_refused_without_repeating_what_may_be_secret(url: str) -> None:
    for given in (url, ("http://fine:80", url)):
        with pytest.raises(InputError) as caught:
            VLLMServer(model="m", url=given)
        assert KEY not in str(caught.value)


def test_arguments_that_are_ours_to_give_are_refused_and_not_repeated() -> None:
    for word in (
        "--api-key",
        "--api_key",
        "--served_model_name=x",
        "--api-key=" + KEY,
        "--port=1",
        "--host",
        "--served-model-name",
    ):
        with pytest.raises(InputError, match=r"is set by VLLMServer itself") as caught:
            VLLMServer(model="m", arguments=(word, KEY))
        assert KEY not in str(caught.value)
    with pytest.raises(ValidationError):
        VLLMServer(model="m", connections=513)


# -- identity ---------------------------------------------------------------------------------------------------------


def test_the_identity_is_that_of_the_model_and_its_template_alone(tmp_path: Path) -> None:
    one = VLLMServer(model="org/model")
    assert one.identity() == VLLMServer(model="org/model", url="http://h:1", connections=3, command="x").identity()
    assert one.identity() == VLLMServer(model="org/model", arguments=("--tensor-parallel-size", "2")).identity()
    others = [
        VLLMServer(model="org/other"),
        VLLMServer(model="org/model", template="plain"),
        VLLMServer(model="org/model", arguments=("--revision", "abc")),
        VLLMServer(model="org/model", arguments=("--revision", "abd", "--quantization", "awq")),
        VLLMServer(model="org/model", arguments=("--quantization=fp8",)),
    ]
    assert len({generator.identity() for generator in [one, *others]}) == 6


DECIDING = """-q fp8; --reasoning-parser qwen3; --reasoning-parser deepseek_r1; --tokenizer-mode slow;
    --lora-modules a=b c=d; --rope-scaling {}; --hf-overrides.rope_theta 3; --config a.yaml; --chat-template a.jinja;
    --logits-processors x.Y; --no-disable-sliding-window; --disable-sliding-window"""
FAST = """--dtype=float16; --kv-cache-dtype fp8; --max-model-len 2048; --max-model-len -1; --tensor-parallel-size 2;
    --enforce-eager; --no-enable-chunked-prefill --max-num-batched-tokens 8192; --gpu-memory-utilization 0.5;
    --max-num-seqs 4; --seed -1; --disable-log-stats; --enable-prefix-caching"""


def test_what_changes_the_text_changes_the_identity_and_what_changes_the_pace_does_not() -> None:
    def identity(arguments: str) -> str:
        return VLLMServer(model="org/model", arguments=tuple(arguments.split())).identity()

    deciding, fast = DECIDING.split(";"), FAST.split(";")
    assert len({identity(arguments) for arguments in [*deciding, ""]}) == len(deciding) + 1
    assert {identity(arguments) for arguments in fast} == {identity("")}
    assert identity("--seed -1 --quantization fp8 --max-num-seqs 4") == identity("--quantization fp8")


def test_a_local_model_is_known_by_its_files(tmp_path: Path) -> None:
    def folder(name: str, weights: bytes, template: str | None) -> VLLMServer:
        path = tmp_path / name
        path.mkdir()
        (path / "config.json").write_text("{}")
        header = json.dumps({"__metadata__": {"of": weights.decode()}}).encode()
        (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        return VLLMServer(model=str(path))

    one, same = folder("one", b"weights", "{{ x }}"), folder("same", b"weights", "{{ x }}")
    other, plain = folder("other", b"others", "{{ x }}"), folder("plain", b"weights", None)
    assert one.identity() == same.identity()
    assert len({one.identity(), other.identity(), plain.identity()}) == 3
    assert one.identity().endswith(" chat")
    assert plain.identity().endswith(" plain")


# -- interruptions ----------------------------------------------------------------------------------------------------

ASKER = """
import sys
from curate.generators.requests import Request, Sampling
from curate.generators import VLLMServer
from curate.generators.request_store import RequestStore, complete
requests = [Request(f"question {k}", Sampling(max_tokens=50), 3, k) for k in range(int(sys.argv[3]))]
generator = VLLMServer(model="fake-model", url=sys.argv[1], connections=4)
print(len(complete(generator, requests, RequestStore(sys.argv[2]))))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_resumed_asks_for_what_is_missing_only(tmp_path: Path, number: int) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(delay=0.005) as server:
        command = [sys.executable, "-c", ASKER, server.url, str(store.path), "300"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=_interruptible) as process:
            _until(lambda: len(server.answered) > 60)
            process.send_signal(number)
            process.wait()
        kept = store.count()
        assert 40 < kept < 300
        arrived = len(server.requests)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout == "300\n"
        assert len(server.requests) - arrived == 300 - kept
    # What was answered as it died may be lost with it, and nothing else.
    assert sum(count - 1 for count in server.answered.values()) <= 3 * 4


def _interruptible() -> None:
    """A test run in the background ignores interrupts, and its children would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupt_hands_back_what_is_finished_and_leaves_no_thread() -> None:
    queue = Pulled(10_000)
    with FakeServer(delay=0.002) as server:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                connect(server, connections=16).serve(queue)
        finally:
            signal.signal(signal.SIGINT, before)
        assert sum(server.answered.values()) - len(queue.done_) <= 3 * 16
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("curate")]
