"""Parts of a message's content, by the kinds of every API that has them."""

from __future__ import annotations

from typing import Any

import pytest

from curate.data.message_parts import Parts
from curate.data.messages import survey
from curate.data.readers import read
from curate.data.turns import USUAL
from tests.data.test_messages import column


def sorted_parts(*content: Any) -> Parts:
    parts = Parts()
    parts.add(list(content))
    return parts


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "reasoning", "text": "hm"},
        {"text": "hm", "thought": True},
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "x"}}},
    ],
)
def test_a_thought_is_not_part_of_the_answer(thought: dict[str, Any]) -> None:
    parts = sorted_parts(thought, {"text": "4"})
    assert (parts.reasoning, parts.texts, parts.unseen) == (["hm"], ["4"], set())


@pytest.mark.parametrize(
    "result",
    [
        {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": '{"x": 1}'}]},
        {"toolResult": {"toolUseId": "c", "content": [{"text": '{"x": 1}'}]}},
        {"toolResult": {"toolUseId": "c", "content": [{"json": {"x": 1}}]}},
    ],
)
def test_results_of_tools_are_turns_of_their_own(result: dict[str, Any]) -> None:
    assert sorted_parts(result).results == [{"role": "tool", "content": '{"x": 1}', "tool_call_id": "c"}]


def test_parts_that_are_not_seen_are_named() -> None:
    parts = sorted_parts({"type": "input_image", "url": "x"}, {"image": "x.png", "text": None}, {}, "t", None)
    assert parts.texts == ["t"]
    assert parts.unseen == {"input_image", "image", "object"}


def test_keys_of_messages_that_are_not_read_are_named_unless_they_are_empty_or_tell_nothing() -> None:
    asked = {"role": "user", "content": "q", "id": "1"}
    plain = [[{**asked, "mask": None}, {"role": "assistant", "content": "a", "mask": True}]]
    odd = [[asked, {"role": "assistant", "content": "a", "train_detail": [{"train": False}], "name": ""}]]
    whole = [[{"user": "q", "assistant": "a", "input": "more"}]]
    for rows, name in ((plain, "mask"), (odd, "train_detail"), (whole, "input")):
        assert survey(column(*rows), USUAL, answered=True).unread == {name}
        (line,) = (line for line in read([{"messages": row} for row in rows]).notes if "not read" in line)
        assert repr(name) in line
    assert not survey(column([{**asked, "mask": None}, {"role": "assistant", "content": "a"}]), USUAL, True).unread
