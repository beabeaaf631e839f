"""Servers that take no temperature, top_p, top_k, seed or stop: asked without, and said, never silently."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.generators.payloads import Served
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion
from curate.generators.sampling_parameters import (
    count_refused_parameters,
    refused_parameter,
    refused_parameters_warning,
    sampling_parameters,
    without_stops,
)
from tests.fixtures.completions import ask, connect, failing
from tests.fixtures.raw_answers import Noted
from tests.fixtures.server import FakeServer, Fault

SENT = sampling_parameters(ask(0, temperature=0.0, top_p=0.9, top_k=5, stop=("###",)), Served("m"))
NOT_TAKEN = [
    ("temperature", "Unsupported parameter: 'temperature' is not supported with this model."),
    (
        "temperature",
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is "
        "supported.",
    ),
    ("temperature", "`temperature` is deprecated for this model."),
    ("temperature", "`temperature` may only be set to 1 when thinking is enabled."),
    ("temperature", "invalid temperature: only 1 is allowed for this model"),
    ("temperature", "temperature must be 1.0"),
    ("temperature", "`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
    ("top_p", "Unsupported parameter: 'top_p' is not supported with this model."),
    ("top_k", "Unrecognized request argument supplied: top_k"),
    ("stop", "Unsupported parameter: 'stop' is not supported with this model."),
    ("seed", "Unknown parameter: 'seed'."),
]
OTHERS = [
    "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3.0 instead.",
    "temperature must be between 0 and 1",
    "temperature must be 1 or less",
    "Unsupported value: 'temperature' must be in the range 0 to 1",
    "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.",
    "Unsupported parameter: 'logprobs' is not supported with this model.",
    "this model does not support what you asked; set a seed and stop",
    "the engine is unwell",
]


def body(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


@pytest.mark.parametrize(("name", "message"), NOT_TAKEN)
def test_wordings_of_a_parameter_that_is_not_taken(name: str, message: str) -> None:
    assert refused_parameter(400, body(message), SENT) == name
    assert refused_parameter(500, body(message), SENT) is None
    assert refused_parameter(400, body(message), {"max_tokens": 5}) is None


@pytest.mark.parametrize("message", OTHERS)
def test_values_out_of_range_and_other_errors_are_none(message: str) -> None:
    assert refused_parameter(400, body(message), SENT) is None


def test_errors_that_name_a_parameter_apart_from_their_message() -> None:
    apart = {"error": {"message": "Unsupported value", "param": "top_p"}}
    assert refused_parameter(400, json.dumps(apart).encode(), SENT) == "top_p"
    detail = {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}
    assert refused_parameter(422, json.dumps(detail).encode(), SENT) == "seed"


def test_a_value_that_changes_nothing_is_left_out_however_it_is_refused() -> None:
    neutral = {**SENT, "top_p": 1.0}
    exclusive = body("Input validation error: `top_p` must be > 0.0 and < 1.0")
    assert refused_parameter(422, exclusive, neutral) == "top_p"
    assert refused_parameter(422, exclusive, SENT) is None
    both = body("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    assert refused_parameter(400, both, neutral) == "top_p"


def refusing(*names: str, only: Callable[[Any], bool] = lambda value: True) -> Callable[[dict[str, Any], int], Any]:
    def fault(body: dict[str, Any], _: int) -> Fault | None:
        for name in names:
            if name in body and only(body[name]):
                return Fault("status", 400, f"Unsupported parameter: '{name}' is not supported with this model.")
        return None

    return fault


def test_a_server_that_takes_no_temperature_is_asked_without_and_that_is_kept(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    requests = [ask(k, temperature=0.0) for k in range(20)]
    with FakeServer(faults=refusing("temperature", "top_p"), owner="somebody") as server:
        found = complete(connect(server, connections=1), requests, store)
        assert len(server.requests) == 22, "a refusal of each is enough"
        assert complete(connect(server), requests, store) == found, "from the store, and it still says so"
    assert {each.refused_parameters for each in found} == {("temperature", "top_p")}
    counts = count_refused_parameters(requests, found)
    assert counts == {"temperature=0": 20, "top_p=1": 20}
    warning = refused_parameters_warning(counts)
    assert warning is not None
    assert "without temperature=0 (20 of them), top_p=1 (20 of them); they are random draws, not the most" in warning


def test_it_is_told_once() -> None:
    queue = Noted(30)
    with FakeServer(faults=refusing("temperature"), owner="somebody") as server:
        connect(server).serve(queue)
    told = "does not take temperature (Unsupported parameter: 'temperature' is not supported with this model.)"
    assert [note for note in queue.notes if told in note] == [f"{server.url} {told}; asking without"]
    assert len(queue.completions) == 30


def test_a_value_that_is_taken_is_sent_though_another_was_refused() -> None:
    requests = [ask(0, temperature=0.0), ask(1, temperature=1.0), ask(2, temperature=0.0)]
    with FakeServer(faults=refusing("temperature", only=lambda value: value != 1), owner="somebody") as server:
        found = complete(connect(server, connections=1), requests)
        assert [body.get("temperature") for body in server.requests] == [0.0, None, 1.0, None]
    assert [each.refused_parameters for each in found] == [("temperature",), (), ("temperature",)]


def test_stop_texts_that_a_server_does_not_take_end_the_text_all_the_same() -> None:
    with FakeServer(lambda body: ("4 + 4 = 8\n### next", "length"), refusing("stop"), owner="somebody") as server:
        (found,) = complete(connect(server), [ask(0, stop=("###", "next"))])
    assert (found.text, found.finish_reason, found.refused_parameters) == ("4 + 4 = 8\n", "stop", ())
    whole = Completion("no end", "length", 1, 2)
    assert without_stops(whole, ("###",)) == whole


def test_nothing_is_said_where_everything_is_taken() -> None:
    requests = [ask(0, temperature=0.0)]
    with FakeServer() as server:
        found = complete(connect(server), requests)
    assert refused_parameters_warning(count_refused_parameters(requests, found)) is None


def test_a_server_that_refuses_whatever_is_sent_ends_in_a_line() -> None:
    named = iter([*["temperature", "top_p", "seed"] * 5])

    def fault(body: dict[str, Any], _: int) -> Fault:
        return Fault("status", 400, f"Unsupported parameter: '{next(named)}' is not supported with this model.")

    with FakeServer(faults=fault, owner="somebody") as server:
        message = failing(InputError, connect(server), [ask(0)])
        assert len(server.requests) == 4
    assert re.search(r"does not accept a request \(status 400\): Unsupported parameter: 'temperature'", message)
