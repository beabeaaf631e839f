"""The template of tokenizers that have none shows everything."""

from __future__ import annotations

import json

from curate.data.readers import read
from curate.data.turns import Turn, read_turns
from curate.tokenization.default_template import JINJA, role_headings
from curate.tokenization.encoding import tokenize
from curate.tokenization.layouts import Part
from tests.fixtures.tokenizers import byte_level
from tests.fixtures.tokens import equal_tokens

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


def test_as_a_chat_template_it_gives_the_same_tokens() -> None:
    asked, said = {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "It is 2."}
    called = {"role": "assistant", "content": None, "tool_calls": CALLS}
    conversations = [
        [{"role": "system", "content": "Be brief."}, asked, said],
        [asked, {**said, "train": False}, {"role": "user", "content": "Sure, été?"}, {**said, "content": "Yes. 雪"}],
        [asked, {**called, "content": "I add."}, {"role": "tool", "tool_call_id": "c2", "content": "2"}, said, asked],
        [
            asked,
            {**called, "reasoning_content": "hm"},
            {"role": "tool", "name": "add", "content": ""},
            {**said, "name": "Bo"},
        ],
        [{"role": "developer", "content": "d"}, asked, {**said, "reasoning_content": "hm"}],
        [asked, called],
    ]
    rows = [{"messages": turns, "tools": [TOOL] * (k % 2)} for k, turns in enumerate(conversations)]
    examples = read(rows).examples
    plain, other = byte_level(), byte_level()
    other.chat_template = JINJA
    for length in (400, 60):
        expected, found = (
            tokenize(examples, tokenizer, template="chat", max_length=length) for tokenizer in (plain, other)
        )
        assert equal_tokens(found, expected)
    for row in conversations:
        turns = [{key: value for key, value in turn.items() if key != "train"} for turn in read_turns(row)]
        parts: list[Part] = ["completion" if turn["role"] == "assistant" else "question" for turn in turns]
        text = "".join(piece for piece, _ in role_headings(turns, parts, [TOOL]))
        ended = other.apply_chat_template(turns, tools=[TOOL], tokenize=False)
        assert ended.startswith(text)
        assert ended == f"{text}{other.eos_token}" or turns[-1]["role"] == "user"
    shown = other.apply_chat_template([asked], tokenize=False, add_generation_prompt=True)
    assert shown == "### User:\n1 + 1?\n\n### Assistant:\n"
    marked = other.apply_chat_template([asked, said], return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, counts in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if counts]
    assert other.decode(learned) == f"It is 2.{other.eos_token}"
