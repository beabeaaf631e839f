"""Text around an example: which characters a model sees, and which of them it is asked to predict.

A rendered example is a list of (text, supervised) pieces. Pieces are tokenised apart, so that the boundary
between prompt and completion is exact: a tokenizer cannot merge characters across it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from curate.errors import InputError
from curate.examples import Examples

__all__ = ["Piece", "Template", "renderer", "resolve_template"]

Piece = tuple[str, bool]
Template = Literal["auto", "alpaca", "plain", "chat"]

# Stanford Alpaca's two wordings, with and without an input field, as MathInstruct-style training uses them.
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n### Response:"
)
_ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}"
    "\n\n### Response:"
)


def resolve_template(template: Template, shape: str, scratch: bool) -> str:
    """The template "auto" stands for.

    Messages take the chat template. Bare prompts take Alpaca's wording, except for a proxy trained from scratch:
    it has never seen that wording, and would spend a third of its tokens on reading it.
    """
    if shape == "text":
        return "none"
    if shape == "messages":
        if template not in ("auto", "chat"):
            raise InputError(f"template {template!r} is for prompts and completions; messages take `template: chat`")
        return "chat"
    if template == "chat":
        return "chat"
    if template == "auto":
        return "plain" if scratch else "alpaca"
    return template


def renderer(examples: Examples, template: str, tokenizer: Any) -> Callable[[int, int], list[list[Piece]]]:
    """Function (low, high) -> pieces of rows low..high-1.

    template: what `resolve_template` returned. A tokenizer without a chat template gets plain role headings.
    """
    if examples.shape == "text":
        return lambda low, high: [[(text, True)] for text in examples.texts("text", low, high)]
    if template == "chat":
        chat = _Chat(tokenizer)
        if examples.shape == "messages":
            return lambda low, high: [
                chat.pieces(turns, low + k) for k, turns in enumerate(examples.texts("messages", low, high))
            ]
        return lambda low, high: [
            chat.pieces([{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}], low + k)
            for k, (prompt, completion) in enumerate(_prompts(examples, low, high))
        ]
    wrap = _alpaca if template == "alpaca" else _plain
    if examples.shape == "instruction":
        return lambda low, high: [
            [(wrap(instruction, given), False), (output, True)]
            for instruction, given, output in _instructions(examples, low, high)
        ]
    return lambda low, high: [
        [(wrap(prompt, ""), False), (completion, True)] for prompt, completion in _prompts(examples, low, high)
    ]


def _alpaca(instruction: str, given: str) -> str:
    # str.replace and not str.format: braces in the data must stay data.
    if given:
        head, tail = _ALPACA_INPUT.split("{instruction}")
        middle, end = tail.split("{input}")
        return head + instruction + middle + given + end
    head, end = _ALPACA.split("{instruction}")
    return head + instruction + end


def _plain(instruction: str, given: str) -> str:
    return f"{instruction}\n{given}\n" if given else f"{instruction}\n"


def _prompts(examples: Examples, low: int, high: int) -> list[tuple[str, str]]:
    if examples.shape == "instruction":
        return [(_plain(a, b).rstrip("\n"), c) for a, b, c in _instructions(examples, low, high)]
    prompts, completions = examples.texts("prompt", low, high), examples.texts("completion", low, high)
    return list(zip(prompts, completions, strict=True))


def _instructions(examples: Examples, low: int, high: int) -> list[tuple[str, str, str]]:
    instructions, outputs = examples.texts("instruction", low, high), examples.texts("output", low, high)
    inputs = examples.texts("input", low, high) if "input" in examples.columns else [""] * (high - low)
    return [(a, b or "", c) for a, b, c in zip(instructions, inputs, outputs, strict=True)]


class _Chat:
    """Renders a conversation once and finds the assistant turns in it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = getattr(tokenizer, "chat_template", None)
        special = sorted(getattr(tokenizer, "all_special_tokens", []), key=len, reverse=True)
        added = [str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()]
        marks = [re.escape(mark) for mark in dict.fromkeys([*special, *added]) if mark]
        self.end_of_turn = re.compile(rf"\s*(?:{'|'.join(marks)})") if marks else None

    def pieces(self, turns: list[dict[str, str]], row: int) -> list[Piece]:
        if not self.template:
            return _role_headings(turns)
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        except Exception as error:  # Jinja raises whatever the template's author chose
            raise InputError(
                f"row {row}: the tokenizer's chat template refused the conversation ({error}); "
                "change the roles, or choose a proxy whose template accepts them"
            ) from error
        found, position = [], 0
        for turn in turns:
            content = turn["content"].strip()
            start = text.find(content, position)
            if start < 0:
                if turn["role"] != "assistant":
                    continue  # a template may leave out a system prompt
                raise InputError(
                    f"row {row}: the tokenizer's chat template rewrites an assistant turn, so it cannot be told "
                    "apart from the prompt; choose another proxy or give the data as prompt and completion"
                )
            position = start + len(content)
            if turn["role"] == "assistant" and content:
                end = self.end_of_turn.match(text, position) if self.end_of_turn else None
                position = end.end() if end else position
                found.append((start, position))
        return _cut(text, found)


def _cut(text: str, spans: list[tuple[int, int]]) -> list[Piece]:
    pieces, position = [], 0
    for start, end in spans:
        pieces += [(text[position:start], False), (text[start:end], True)]
        position = end
    # What follows the last assistant turn predicts nothing that counts.
    return [piece for piece in pieces if piece[0]] or [(text, False)]


def _role_headings(turns: list[dict[str, str]]) -> list[Piece]:
    """For tokenizers without a chat template: `### Role:` headings."""
    pieces: list[Piece] = []
    for turn in turns:
        pieces.append((f"### {turn['role'].capitalize()}:\n", False))
        pieces.append((turn["content"], turn["role"] == "assistant"))
        pieces.append(("\n\n", False))
    return pieces[:-1]
