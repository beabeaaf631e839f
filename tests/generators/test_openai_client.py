"""Completions from servers: every request answered once and in its place, whatever the servers do meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from curate.checks import check_component
from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer
from curate.generators.request_queue import complete
from curate.generators.requests import Completion, Generator
from curate.seeds import derive_seed
from tests.fixtures.completions import MESSAGES, ask, connect, failing, many, texts
from tests.fixtures.server import FakeServer, Fault, asked


def first_time(fault: Fault, every: int = 1) -> Callable[[dict[str, Any], int], Fault | None]:
    """A fault of every n-th request, when it comes for the first time."""
    return lambda body, attempt: fault if attempt == 0 and int(asked(body).split()[-1]) % every == 0 else None


# -- what is sent and what comes back ----------------------------------------------------------------------------------
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


# -- faults that pass --------------------------------------------------------------------------------------------------
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


def test_retry_after_is_honored() -> None:
    for header in (lambda: "0.4", lambda: formatdate(time.time() + 2, usegmt=True)):
        with FakeServer(faults=first_time(Fault("status", 429, headers={"Retry-After": header()}))) as server:
            complete(connect(server), [ask(0)])
            assert server.times[1] - server.times[0] > 0.35


# -- how much at a time ------------------------------------------------------------------------------------------------


# -- interruptions -----------------------------------------------------------------------------------------------------


# -- what no repeat can fix --------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("status", [400, 404, 422, 418])
def test_a_request_that_is_not_accepted_is_the_users_turn(status: int) -> None:
    with FakeServer(faults=lambda body, _: Fault("status", status, "top_p must be\n\x1b[1m in (0, 1]")) as server:
        message = failing(InputError, connect(server), [ask(0)])
    assert f"(status {status}): top_p must be in (0, 1]" in message
    assert server.paths["/v1/completions"] == 1


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
        assert f"redirects to {other.url}/x, and redirects are not followed" in message
        assert not other.headers
