"""The template of tokenizers that have none shows everything."""

from __future__ import annotations

import json

from curate.data.turns import Turn
from curate.tokenization.default_template import role_headings
from curate.tokenization.layouts import Part

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds."}}
CALLS = [{"id": f"c{k}", "type": "function", "function": {"name": "add", "arguments": {"a": k}}} for k in (1, 2)]

DEFAULT = """### Tools:
{tool}

### System:
Be brief.

### User:
1 + 1?

### Assistant:
<think>
hm
</think>

I add.
<tool_call>
{{"name": "add", "arguments": {{"a": 1}}}}
</tool_call>
<tool_call>
{{"name": "add", "arguments": {{"a": 2}}}}
</tool_call>

### Tool (add):
2

### Tool (add):
3

### Assistant:
It is 2."""


def test_the_default_template_renders_all_of_it() -> None:
    turns: list[Turn] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "I add.", "reasoning_content": "hm", "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "tool", "name": "add", "content": "3"},
        {"role": "assistant", "content": "It is 2."},
        {"role": "user", "content": "Thanks."},
    ]
    parts: list[Part] = ["system", "question", "completion", "system", "system", "completion", "question"]
    text = DEFAULT.format(tool=json.dumps(TOOL))
    pieces = role_headings(turns, parts, [TOOL])
    assert "".join(piece for piece, _ in pieces) == text
    thought = text[text.index("<think>") : text.index("\n\n### Tool (add)")]
    assert [piece for piece, part in pieces if part == "completion"] == [thought, "It is 2."]


def test_turns_that_only_call_or_think() -> None:
    turn: Turn = {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": CALLS[:1]}
    called = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert role_headings([turn], ["completion"])[1] == (f"<think>\nhm\n</think>\n\n{called}", "completion")
    bare: Turn = {"role": "assistant", "content": "", "tool_calls": CALLS[:1]}
    assert role_headings([bare], ["completion"]) == [("### Assistant:\n", "frame"), (called, "completion")]


def test_what_follows_the_last_turn_that_is_learned_is_left_out() -> None:
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    parts: list[Part] = ["question", "completion", "question", "system"]
    assert role_headings(turns, parts)[-1] == ("assistant", "completion")
    assert role_headings(turns, ["frame"] * 4)[-1] == ("assistant", "frame")
