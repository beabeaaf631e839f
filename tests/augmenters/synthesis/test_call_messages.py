"""Messages with calls, taken over without their words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from augmenters.synthesis.call_messages import call_messages
from curate import read

CALL = {"name": "book", "arguments": {"room": 3}}
NESTED = {"id": "c1", "type": "function", "function": {"name": "book", "arguments": '{"room": 3}'}}


AS_CONTENT = {"role": "function_call", "content": json.dumps(CALL)}


def taken(answer: dict[str, Any], *more: dict[str, Any]) -> Any:
    rows = [{"messages": [{"role": "user", "content": "A room?"}, answer, *more]}]
    (message,) = call_messages(read(rows).examples)
    return message


@pytest.mark.parametrize(
    ("answer", "bare"),
    [
        ({"content": "At once.", "tool_calls": [NESTED]}, {"content": "", "tool_calls": [NESTED]}),
        ({"thinking": "Hm.", "tool_calls": [NESTED]}, {"tool_calls": [NESTED]}),
        (
            {"content": [{"type": "text", "text": "Hm."}, {"type": "tool_use", "name": "book", "input": {"room": 3}}]},
            {"content": [{"type": "tool_use", "name": "book", "input": {"room": 3}}]},
        ),
        # The content is the call itself.
        (
            {"role": "function_call", "content": json.dumps(CALL)},
            {"role": "function_call", "content": json.dumps(CALL)},
        ),
    ],
)
def test_only_the_calls_are_left(answer: dict[str, Any], bare: dict[str, Any]) -> None:
    found = taken({"role": "assistant", **answer})
    assert {key: value for key, value in found.items() if value is not None} == {"role": "assistant", **bare}


def test_words_alone_are_no_calls() -> None:
    assert taken({"role": "assistant", "content": "Yes."}) is None
    said = {"role": "assistant", "content": "Yes."}
    assert taken({"role": "assistant", "content": "", "tool_calls": [NESTED]}, said) is None
