"""Messages of every usual form are the same turns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curate.data.tool_calls import BadTurn
from curate.data.turns import MessageKeys, TurnReader, history_of, is_learned, last_learned, read_turns, said_characters

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


def turns(*messages: Any, **keys: Any) -> list[dict[str, Any]]:
    return read_turns(messages, MessageKeys(**keys))


ASKED = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        [{"from": "human", "value": "q"}, {"from": "chatgpt", "value": "a"}],
        [{"role": "user", "value": "q"}, {"role": "bot", "value": "a"}],
        [{"role": "User", "content": "q"}, {"role": " ASSISTANT ", "content": "a"}],
        [{"speaker": "human", "text": "q"}, {"speaker": "ai", "utterance": "a"}],
        [{"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["q"]}}, ASKED[1]],
        [{"human": "q", "assistant": "a"}],
        [{"input": "q", "output": "a"}],
        [{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}],
        [{"role": "user", "content": ["q"]}, {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
        [json.dumps(turn) for turn in ASKED],
        [{**turn, "name": None, "tool_calls": None, "weight": None, "id": 7} for turn in ASKED],
        [{**turn, "tool_calls": []} for turn in ASKED],
    ],
)
def test_messages_of_every_usual_form_are_the_same_turns(messages: list[Any]) -> None:
    assert turns(*messages) == ASKED


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])},
        {"role": "assistant", "content": "", "tool_calls": [json.dumps(CALL)]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}]},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        {"role": "assistant", "tool_calls": {"name": "add", "parameters": {"a": 1}}},
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "function_call", "value": '[{"name": "add", "arguments": "{\\"a\\": 1}"}]'},
        {"role": "tool_call", "content": '{"name": "add", "arguments": {"a": 1}}'},
        {"role": "tool call", "content": {"name": "add", "arguments": {"a": 1}}},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "add", "input": {"a": 1}}]},
        {"type": "function_call", "name": "add", "arguments": '{"a": 1}'},
        {"role": "assistant", "content": [{"toolUse": {"name": "add", "input": {"a": 1}}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"a": 1}}}]},
    ],
)
def test_calls_of_every_usual_form_are_the_same_call(message: dict[str, Any]) -> None:
    assert turns(message) == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]


def test_a_call_keeps_its_id_and_arguments_that_are_no_object() -> None:
    call = {"id": "c1", "function": {"name": "add", "arguments": "1 and 2"}}
    (turn,) = turns({"role": "assistant", "content": "x", "tool_calls": [call]})
    made = {"type": "function", "function": {"name": "add", "arguments": "1 and 2"}, "id": "c1"}
    assert turn == {"role": "assistant", "content": "x", "tool_calls": [made]}
    (turn,) = turns({"role": "assistant", "tool_calls": [{"name": "now", "arguments": ""}]})
    assert turn["tool_calls"][0]["function"] == {"name": "now", "arguments": {}}
    nested = {"text": "é\n\U0001f600", "deep": [{"n": None}]}
    (turn,) = turns({"role": "assistant", "tool_calls": [{"name": "say", "arguments": json.dumps(nested)}]})
    assert turn["tool_calls"][0]["function"]["arguments"] == nested
    said = "I call add."
    assert turns({"from": "function_call", "value": said}) == [{"role": "assistant", "content": said}]


def test_a_call_without_a_name_is_not_seen() -> None:
    reader = TurnReader(MessageKeys())
    assert reader.read([{"role": "assistant", "content": "a", "tool_calls": [{"n": 1}]}]) == [ASKED[1]]
    assert reader.unseen == {"tool calls without a name"}
    assert reader.read([{"role": "assistant", "tool_calls": [{"n": 1}]}]) == [{"role": "assistant", "content": ""}]


def test_results_of_tools() -> None:
    said = [
        ({"role": "tool", "tool_call_id": "c1", "content": "3"}, {"content": "3", "tool_call_id": "c1"}),
        ({"role": "function", "name": "add", "content": "3"}, {"content": "3", "name": "add"}),
        ({"from": "observation", "value": "3"}, {"content": "3"}),
        ({"role": "environment", "content": "3"}, {"content": "3"}),
        (
            {"role": "function", "parts": [{"functionResponse": {"name": "add", "response": {"sum": 3}}}]},
            {"content": '{"sum": 3}', "name": "add"},
        ),
        ({"role": "ipython", "content": [{"type": "text", "text": "3"}]}, {"content": "3"}),
        ({"role": "tool", "content": {"sum": 3}}, {"content": '{"sum": 3}'}),
        ({"role": "tool", "content": None}, {"content": ""}),
        ({"role": "tool", "tool_results": [{"sum": 3}]}, {"content": '[{"sum": 3}]'}),
        ({"role": "tool", "output": "3"}, {"content": "3"}),
        (
            {"type": "function_call_output", "call_id": "c1", "output": "3"},
            {"content": "3", "tool_call_id": "c1"},
        ),
        ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "3"}]}, None),
    ]
    for message, expected in said:
        assert turns(message) == [{"role": "tool", **(expected or {"content": "3", "tool_call_id": "c1"})}]


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning", "tool_plan"])
def test_reasoning(key: str) -> None:
    assert turns({"role": "assistant", "content": "a", key: "hm"}) == [{**ASKED[1], "reasoning_content": "hm"}]
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]
    assert turns({"role": "assistant", "content": parts}) == [{**ASKED[1], "reasoning_content": "hm"}]
    assert turns({"role": "assistant", "content": None, key: "hm"})[0]["content"] == ""


@pytest.mark.parametrize("key", ["weight", "loss_weight", "train", "training"])
@pytest.mark.parametrize(
    ("value", "learned"),
    [
        (0, False),
        (1, True),
        (0.0, False),
        (False, False),
        (True, True),
        ("0", False),
        ("1", True),
        ("false", False),
        ("True", True),
        ("no", False),
        (None, True),
    ],
)
def test_a_weight_of_zero_is_not_learned(key: str, value: Any, learned: bool) -> None:
    (turn,) = turns({"role": "assistant", "content": "a", key: value})
    assert is_learned(turn) == learned
    assert turn == ({"role": "assistant", "content": "a"} | ({} if learned else {"train": False}))
    assert turns({"role": "user", "content": "q", key: value}) == [{"role": "user", "content": "q"}]


def test_a_loss_that_was_measured_is_no_weight() -> None:
    assert is_learned(turns({"role": "assistant", "content": "a", "loss": 0.0})[0])
    assert not is_learned(turns({"role": "assistant", "content": "a", "loss": False})[0])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "without a role"),
        ("text", "without a role"),
        ({"content": "a"}, "without a role"),
        ({"role": 3, "content": "a"}, "without a role"),
        ({"role": "user"}, "without content"),
        ({"role": "user", "content": None}, "without content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "without content"),
        ({"role": "user", "content": 7}, "holds a number, 7, not text"),
        ({"role": "user", "content": {"x": 1}}, 'holds an object, {"x": 1}, not text'),
        ({"role": "assistant", "content": "a", "weight": "high"}, "whose weight is high; a turn is learned or not"),
        ({"role": "assistant", "content": "a", "weight": -1}, "whose weight is -1"),
        ({"human": "q", "assistant": None}, "without content"),
    ],
)
def test_messages_that_cannot_be_read(message: Any, reason: str) -> None:
    with pytest.raises(BadTurn, match=reason):
        turns(message)


def test_keys_and_roles_that_are_named() -> None:
    messages = [{"who": "patient", "said": "q", "text": "x"}, {"who": "doctor", "said": "a"}]
    roles = {"patient": "user", "doctor": "assistant"}
    assert turns(*messages, role="who", content="said", roles=roles) == ASKED
    assert turns({"role": "bot", "content": "a"}, roles={"bot": "user"}) == [{"role": "user", "content": "a"}]
    assert turns({"role": "act", "content": '{"name": "add", "arguments": {"a": 1}}'}, roles={"act": "function_call"})[
        0
    ]["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    "history",
    [
        [["q", "a"]],
        [["q", "a"], ["", None]],
        ["q", "a"],
        '[["q", "a"]]',
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        [{"user": "q", "bot": "a"}],
    ],
)
def test_histories_of_every_usual_form_are_not_learned(history: Any) -> None:
    assert history_of(history) == [ASKED[0], {**ASKED[1], "train": False}]


def test_histories_that_are_none() -> None:
    assert history_of(None) == history_of([]) == history_of("") == history_of("[]") == []
    for history in ("User: q", ["q"], [["q"]], [["q", "a", "b"]], [["q", 1]], 7, {"a": 1}):
        with pytest.raises(BadTurn):
            history_of(history)


def test_the_last_turn_that_is_learned() -> None:
    one, two = {"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b", "train": False}
    assert last_learned([ASKED[0], one, ASKED[0], two]) == 1
    assert last_learned([ASKED[0], two]) == 1
    assert said_characters({**one, "reasoning_content": "hm", "tool_calls": [CALL]}) == 3 + len('add{"a": 1}')


def test_what_the_system_says_may_stand_under_its_own_key() -> None:
    said = [{"role": "system", "text": None, "system_prompt": "s"}, {"role": "ai", "text": "a", "system_prompt": None}]
    assert turns(*said) == [{"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(BadTurn, match="without content"):
        turns({"role": "user", "system_prompt": "s"})
