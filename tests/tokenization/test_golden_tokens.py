"""Caches are keyed by what is read of the rows and by `TOKENS_VERSION`: whoever changes the tokens must raise it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curate
from curate.models.scratch import _sample_texts
from curate.tokenization.encoding import TOKENS_VERSION, tokenize
from tests.fixtures.tokenizers import CHATML, FAMILIES, slow
from tests.fixtures.tool_templates import TOOL_TEMPLATES

GOLDEN = Path(__file__).parent / "golden_tokens.json"

ADD = {
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}
CALLS = [{"id": f"call0000{k}", "type": "function", "function": {"name": "add", "arguments": {"a": k}}} for k in (1, 2)]


def said(role: str, content: str | None, **further: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **further}


CHAT = [said("user", "What is 1 + 1?"), said("assistant", " It is 2.\n")]
LONG_CHAT = [
    turn for k in range(9) for turn in (said("user", f"What is {k} + 1? " * 4), said("assistant", f"It is {k + 1}."))
]
ROUNDS = [turn for call in CALLS * 4 for turn in (said("assistant", None, tool_calls=[call]), said("tool", "7" * 40))]
ROWS: dict[str, list[dict[str, Any]]] = {
    "prompts": [{"prompt": "What is 1 + 1?", "completion": "2"}, {"prompt": "x " * 200, "completion": "y " * 200}],
    "instructions": [{"instruction": "Add.", "input": "1 and 1", "output": "2"}],
    "surrounded prompts": [
        {"question": "So?", "answer": "Yes", "system": "Be brief.", "context": "Rain. " * 40, "history": [["A", "B"]]},
        {"question": "And 2?", "answer": "3", "system": "Be brief.", "context": "None.", "history": [["1?", "2"]] * 9},
    ],
    "prompts with tools": [{"prompt": "What is 1 + 1?", "completion": "2", "tools": [ADD] * 5}],
    "texts": [{"text": "Once upon a time."}, {"text": "Long. " * 80}],
    "chats": [{"messages": CHAT}, {"messages": [said("system", "Be brief."), *CHAT, *CHAT]}, {"messages": LONG_CHAT}],
    "weights": [{"messages": [*CHAT, said("user", "And 2?"), said("assistant", "3", weight=0), *CHAT]}],
    "halves": [{"prompt": [*CHAT, CHAT[0]], "completion": [CHAT[1]]}],
    "reasoning": [{"messages": [*CHAT, said("user", "So?"), said("assistant", "Yes", reasoning_content="1 + 1 is 2")]}],
    "calls": [
        {"messages": [CHAT[0], said("assistant", None, tool_calls=CALLS[:1]), said("tool", "2", name="add"), CHAT[1]],
         "tools": [ADD]},
        {"messages": [CHAT[0], said("assistant", "So.", tool_calls=CALLS[:1])], "tools": [ADD]},
        {"messages": [CHAT[0], *ROUNDS, CHAT[1]], "tools": [ADD] * 9},
    ],
    "parallel calls": [
        {"messages": [CHAT[0], said("assistant", "", tool_calls=CALLS), said("tool", "1"), said("tool", "2"), CHAT[1]]}
    ],
}  # fmt: skip
TEMPLATES = {
    "default": None,
    "chatml": CHATML,
    **{name: template for name, (template, *_) in FAMILIES.items()},
    **{f"tools of {name}": template for name, template in TOOL_TEMPLATES.items()},
}
CHATS = ("chats", "weights", "halves", "reasoning", "calls", "parallel calls", "surrounded prompts")


def _tokens_of(name: str) -> str:
    """A digest of the tokens of the rows of this name, and of which are supervised, in every template."""
    examples, digest = curate.read(ROWS[name]).examples, hashlib.blake2b(digest_size=16)
    wordings = [("chat", template) for template in TEMPLATES.values()] if name in CHATS else []
    if examples.shape != "messages":
        wordings += [(wording, None) for wording in (("none",) if name == "texts" else ("alpaca", "plain"))]
    for wording, chat_template in wordings:
        tokenizer = slow()
        tokenizer.chat_template = chat_template
        for supervise in ("all", "last"):
            tokens = tokenize(
                examples, tokenizer, template=wording, max_length=400, supervise=supervise, refuse=lambda *_: None
            )
            for array in (tokens.ids, tokens.supervised, tokens.offsets, tokens.valid):
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    digest.update(repr(list(_sample_texts(examples, 0))).encode())  # what a scratch tokenizer learns from
    return digest.hexdigest()


def _golden() -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {"version": 0, "tokens": {}}
    return golden


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.filterwarnings("ignore::curate.errors.DataWarning")
def test_rows_have_the_tokens_of_this_version(name: str) -> None:
    """Where a change is meant: raise `TOKENS_VERSION`; `python -m tests.tokenization.test_golden_tokens` follows."""
    golden = _golden()
    assert golden["version"] == TOKENS_VERSION
    assert golden["tokens"][name] == _tokens_of(name)


if __name__ == "__main__":
    if (found := {name: _tokens_of(name) for name in ROWS}) != _golden()["tokens"]:
        kept = _golden()["tokens"].items() <= found.items()
        if not kept and _golden()["version"] >= TOKENS_VERSION:
            sys.exit(
                "rows have other tokens than before: raise TOKENS_VERSION in curate/tokenization/encoding.py first"
            )
    GOLDEN.write_text(json.dumps({"version": TOKENS_VERSION, "tokens": found}, indent=1) + "\n")
