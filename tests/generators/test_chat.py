"""Prompts as token ids: messages through the template or joined, text as it is."""

from __future__ import annotations

from typing import Any

import pytest

from curate.errors import InputError
from curate.generators.chat import encode_prompt
from curate.generators.decoding import sample
from curate.generators.requests import Completion, Prompt, Request, Sampling
from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import CHATML, byte_level, metaspace

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
