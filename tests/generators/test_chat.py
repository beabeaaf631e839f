"""Prompts as token ids: messages through the template or joined, text as it is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from curate.errors import InputError
from curate.generators.chat import as_messages, as_text, encode_prompt
from curate.generators.decoding import sample
from curate.generators.requests import Completion, Prompt, Request, Sampling
from curate.tokenization.layouts import joined, only_last
from curate.tokenization.templates import chat_layouts
from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import CHATML, byte_level, metaspace
from tests.fixtures.tool_templates import HARMONY, QWEN

TOKENIZER = byte_level(vocabulary=300)


CHAT = byte_level(vocabulary=300, chat=CHATML)


def model_of(family: str = "llama", **changes: Any) -> Any:
    return tiny_model(family, **{"vocab_size": len(TOKENIZER), **changes})


def ask(prompt: Prompt, index: int = 0, **sampling: Any) -> Request:
    return Request(prompt, Sampling(**{"max_tokens": 12, **sampling}), 5, index)


def drawn(model: Any, requests: list[Request], **more: Any) -> list[Completion]:
    return sample(model, more.pop("tokenizer", TOKENIZER), requests, **more)


MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 12?"})


def test_messages_are_rendered_by_the_chat_template_or_joined() -> None:
    model = model_of()
    rendered = CHAT.apply_chat_template([dict(m) for m in MESSAGES], tokenize=False, add_generation_prompt=True)
    joined = "Be brief.\n\nWhat is 12?"
    assert drawn(model, [ask(MESSAGES)], tokenizer=CHAT) == drawn(model, [ask(rendered)], tokenizer=CHAT)
    plain = drawn(model, [ask(joined)])
    assert drawn(model, [ask(MESSAGES)]) == plain
    assert drawn(model, [ask(MESSAGES)], tokenizer=CHAT, template="plain") == plain
    with pytest.raises(InputError, match="no chat template; set template: plain"):
        drawn(model, [ask(MESSAGES)], template="chat")


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_a_prompt_that_begins_a_sequence_gets_no_second_beginning(make: Any) -> None:
    tokenizer = make(auto_bos=True)
    assert encode_prompt(tokenizer, "<|begin|>What is", "plain").count(0) == 1
    assert encode_prompt(tokenizer, "What is", "plain") == tokenizer("What is")["input_ids"]


TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
TURNS: Any = [
    {"role": "user", "content": "1 + 1, and 2 + 2?"},
    {
        "role": "assistant",
        "content": "",
        "train": False,
        "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
            {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}},
        ],
    },
    {"role": "tool", "content": "2"},
    {"role": "tool", "content": "4"},
    {"role": "assistant", "content": "2 and 4."},
]


@pytest.mark.parametrize("template", [QWEN, HARMONY])
def test_a_chat_with_tools_is_the_prompt_of_training(template: str) -> None:
    """As a generator in this process tokenizes messages and tools, so the rows of a proxy were tokenized."""
    tokenizer = byte_level(vocabulary=300, chat=template)
    (layout,) = chat_layouts(tokenizer)([TURNS], [[TOOL]])
    trained = "".join(text for text, part in joined(only_last(layout).pieces(0)) if part == "prompt")
    ids = encode_prompt(tokenizer, as_messages(TURNS[:-1]), "chat", [TOOL])
    asked = tokenizer.decode(ids)
    assert trained.startswith(asked)
    assert set(re.findall(r"\w+", trained.removeprefix(asked))) <= {"channel", "final", "message", "think"}


def test_calls_have_ids_that_their_results_repeat_and_arguments_as_text() -> None:
    sent = as_messages(TURNS)
    calls = sent[1]["tool_calls"]
    assert [call["id"] for call in calls] == [turn["tool_call_id"] for turn in sent[2:4]]
    assert len({call["id"] for call in calls}) == 2
    assert all(len(call["id"]) == 9 and call["id"].isalnum() for call in calls)
    assert [call["function"]["arguments"] for call in calls] == ['{"a": 1}', '{"a": 2}']
    assert all("train" not in message for message in sent)


def test_plain_text_of_a_chat_has_its_tools_and_calls() -> None:
    text = as_text(as_messages(TURNS), [TOOL])
    assert text.startswith('{"type": "function", "function": {"name": "add"')
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>' in text
