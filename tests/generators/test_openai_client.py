"""Completions from servers: every request answered once and in its place, whatever the servers do meanwhile."""

from __future__ import annotations

import asyncio
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

from curate.checks import check_component
from curate.errors import ExternalError
from curate.generators import VLLMServer, failures
from curate.generators import load_balancing as endpoints
from curate.generators.request_store import RequestStore, complete
from curate.generators.requests import Completion, Generator, Request
from curate.seeds import derive_seed
from tests.fixtures.completions import MESSAGES, Pulled, _interruptible, _until, ask, connect, failing, many, texts
from tests.fixtures.server import FakeServer, Fault, asked


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


class Full(Pulled):
    def done(self, request: Request, completion: Completion) -> None:
        raise ExternalError("the disk is full")


def test_what_the_queue_raises_comes_out() -> None:
    with FakeServer() as server, pytest.raises(ExternalError, match="the disk is full"):
        connect(server).serve(Full(30))
    assert threading.active_count() < 10


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
