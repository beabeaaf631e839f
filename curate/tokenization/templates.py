"""Render examples as text: which characters a model sees, and which of them it predicts.

A rendered example is a list of (text, part) pieces, see `curate.tokenization.layouts`. Context and predictions
are tokenized apart, so that the boundary between prompt and completion is exact: a tokenizer cannot merge
across it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from curate.data.examples import Examples
from curate.errors import InputError
from curate.tokenization.chat_template import Chat
from curate.tokenization.layouts import Layout, Piece, RefusedRow, joined

# What helps against a row that a chat template refuses.
REFUSED_REMEDY = "change the row, or choose a model whose template accepts it"

Layouts = Callable[[int, int], list[Layout]]
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
    """Function (low, high) -> pieces of rows low..high-1, whole, the context before a completion as one piece.

    template: what `resolve_template` returned. Raises InputError for a conversation that the template refuses.
    """
    layout = layouts(examples, template, tokenizer)

    def render(low: int, high: int) -> list[list[Piece]]:
        rows = []
        for k, row in enumerate(layout(low, high)):
            try:
                rows.append(joined(row.pieces(0)))
            except RefusedRow as error:
                raise InputError(f"row {low + k}: {error}; {REFUSED_REMEDY}") from error
        return rows

    return render


def layouts(examples: Examples, template: str, tokenizer: Any) -> Layouts:
    """Function (low, high) -> layouts of rows low..high-1, which say what may be dropped from a row that is too long.

    template: what `resolve_template` returned. A tokenizer without a chat template gets plain role headings.
    """
    if examples.shape == "text":
        return lambda low, high: [fixed([(text, "completion")]) for text in examples.texts("text", low, high)]
    if template == "chat":
        chat = Chat(tokenizer)
        if examples.shape == "messages":
            return lambda low, high: [chat.layout(turns) for turns in examples.texts("messages", low, high)]
        return lambda low, high: [
            chat.layout(
                [
                    {"role": "user", "content": f"{instruction}\n{context}" if context else instruction},
                    {"role": "assistant", "content": output},
                ]
            )
            for instruction, context, output in _instructions(examples, low, high)
        ]
    wrap = _alpaca if template == "alpaca" else _plain
    return lambda low, high: [
        fixed([*wrap(instruction, context), (output, "completion")])
        for instruction, context, output in _instructions(examples, low, high)
    ]


def fixed(pieces: Sequence[Piece]) -> Layout:
    """A row of which no turn can be left out."""
    return Layout(lambda _: list(pieces))


def _alpaca(instruction: str, context: str) -> list[Piece]:
    # Joined and not formatted: braces in the data must stay data.
    fields = {"{instruction}": instruction, "{input}": context}
    wording = re.split(r"(\{\w+\})", _ALPACA_INPUT if context else _ALPACA)
    return [(fields[text], "question") if text in fields else (text, "prompt") for text in wording]


def _plain(instruction: str, context: str) -> list[Piece]:
    return [(f"{instruction}\n{context}\n" if context else f"{instruction}\n", "question")]


def _instructions(examples: Examples, low: int, high: int) -> list[tuple[str, str, str]]:
    """(instruction or prompt, its input or "", output) of rows low..high-1."""
    roles = ("instruction", "output") if examples.shape == "instruction" else ("prompt", "completion")
    questions, answers = (examples.texts(role, low, high) for role in roles)
    inputs = examples.texts("input", low, high) if "input" in examples.columns else [""] * (high - low)
    return [(question, text or "", answer) for question, text, answer in zip(questions, inputs, answers, strict=True)]
