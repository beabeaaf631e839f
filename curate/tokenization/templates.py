"""Render examples as text with a chat template, Alpaca's wording or plain prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

from curate.data.examples import Examples
from curate.data.surroundings import NOTHING, Surroundings
from curate.data.turns import Turn
from curate.errors import InputError
from curate.tokenization.chat_template import Chat
from curate.tokenization.dialect import Tools
from curate.tokenization.layouts import Layout, Piece, RefusedRow, joined, only_last

# A rendered example is a list of (text, part) pieces, see `curate.tokenization.layouts`. Context and predictions
# are tokenized separately, so that the boundary between prompt and completion is exact: a tokenizer cannot merge
# across it.

# Remedy in messages about a row that a chat template refuses.
REFUSED_REMEDY = "change the row, or choose a model whose template accepts it"

Layouts = Callable[[int, int], list[Layout]]
Template = Literal["auto", "alpaca", "plain", "chat"]
# Which assistant turns a model learns.
Supervise = Literal["all", "last"]

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
    """Resolve "auto" and check that the template fits the shape of the data.

    Messages take the chat template. Bare prompts take Alpaca's wording, except for a proxy trained from scratch,
    which would spend a third of its tokens on wording that it has never seen.
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


def renderer(
    examples: Examples, template: str, tokenizer: Any, supervise: Supervise = "all"
) -> Callable[[int, int], list[list[Piece]]]:
    """Function (low, high) -> pieces of rows low..high-1 without truncation, with context merged into one piece.

    template: what `resolve_template` returned. Raises InputError for a conversation that the template refuses.
    """
    layout = layouts(examples, template, tokenizer, supervise)

    def render(low: int, high: int) -> list[list[Piece]]:
        rows = []
        for k, row in enumerate(layout(low, high)):
            try:
                rows.append(joined(row.pieces(0)))
            except RefusedRow as error:
                raise InputError(f"row {low + k}: {error}; {REFUSED_REMEDY}") from error
        return rows

    return render


def layouts(examples: Examples, template: str, tokenizer: Any, supervise: Supervise = "all") -> Layouts:
    """Function (low, high) -> layouts of rows low..high-1, with which long rows can be truncated.

    template: what `resolve_template` returned. A tokenizer without a chat template gets
    `curate.tokenization.default_template.role_headings`.
    """
    if examples.shape == "text":
        return lambda low, high: [fixed([(text, "completion")]) for text in examples.texts("text", low, high)]
    if template == "chat":
        chat = chat_layouts(tokenizer)

        def chats(low: int, high: int) -> list[Layout]:
            tools = [surrounding.tools for surrounding in examples.surroundings(low, high)]
            rows = chat(examples.conversations(low, high), tools)
            return rows if supervise == "all" else [only_last(row) for row in rows]

        return chats
    wrap = _alpaca if template == "alpaca" else _plain

    def prompts(low: int, high: int) -> list[Layout]:
        rows = zip(_instructions(examples, low, high), examples.surroundings(low, high), strict=True)
        return [
            _surrounded(wrap(instruction, text, surrounding.context), (output, "completion"), surrounding)
            for (instruction, text, output), surrounding in rows
        ]

    return prompts


def chat_layouts(tokenizer: Any) -> Callable[[Sequence[list[Turn]], Sequence[Tools]], list[Layout]]:
    """Function (conversations, tools of each) -> layouts, by the tokenizer's chat template or the default one."""
    chat = Chat(tokenizer)
    return lambda conversations, tools: [
        chat.layout(turns, row_tools) for turns, row_tools in zip(conversations, tools, strict=True)
    ]


def _surrounded(prompt: list[Piece], answer: Piece, around: Surroundings) -> Layout:
    """A prompt preceded by tools, system and history as paragraphs; the oldest exchanges may be dropped."""
    if around == NOTHING:
        return fixed([*prompt, answer])
    before: list[Piece] = []
    if around.tools:
        tool_lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in around.tools)
        before += [(tool_lines, "system"), ("\n\n", "prompt")]
    if around.system:
        before += [(around.system, "system"), ("\n\n", "prompt")]
    starts = [k for k, turn in enumerate(around.history) if turn["role"] == "user" or k == 0]
    exchanges = [around.history[a:b] for a, b in pairwise([*starts, len(around.history)])]
    exchange_texts = ["".join(f"{turn['content']}\n" for turn in turns) + "\n" for turns in exchanges]
    return Layout(
        lambda dropped: [*before, *((text, "frame") for text in exchange_texts[dropped:]), *prompt, answer],
        [len(t) for t in exchange_texts],
    )


def fixed(pieces: Sequence[Piece]) -> Layout:
    """A layout of which nothing can be dropped."""
    return Layout(lambda _: list(pieces))


def _alpaca(instruction: str, text: str, context: str = "") -> list[Piece]:
    """Alpaca's wording; the context takes the place of the input, or comes first if there is an input."""
    # Joined rather than formatted, since the data may contain braces.
    inputs: Piece = (text, "question") if text else (context, "system")
    fields: dict[str, Piece] = {"{instruction}": (instruction, "question"), "{input}": inputs}
    wording = re.split(r"(\{\w+\})", _ALPACA_INPUT if text or context else _ALPACA)
    pieces: list[Piece] = [fields.get(part, (part, "prompt")) for part in wording]
    return [(context, "system"), ("\n\n", "prompt"), *pieces] if text and context else pieces


def _plain(instruction: str, text: str, context: str = "") -> list[Piece]:
    question: Piece = (f"{instruction}\n{text}\n" if text else f"{instruction}\n", "question")
    return [(context, "system"), ("\n", "prompt"), question] if context else [question]


def _instructions(examples: Examples, low: int, high: int) -> list[tuple[str, str, str]]:
    """(instruction or prompt, its input or "", output) of rows low..high-1."""
    roles = ("instruction", "output") if examples.shape == "instruction" else ("prompt", "completion")
    questions, answers = (examples.texts(role, low, high) for role in roles)
    inputs = examples.texts("input", low, high) if "input" in examples.columns else [""] * (high - low)
    return [(question, text or "", answer) for question, text, answer in zip(questions, inputs, answers, strict=True)]
