"""Text around an example: which characters a model sees, and which of them it is asked to predict.

A rendered example is a list of (text, part) pieces. Pieces are tokenised apart, so that the boundary between
prompt and completion is exact: a tokenizer cannot merge characters across it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from curate.errors import InputError
from curate.examples import Examples

__all__ = ["Part", "Piece", "Template", "last_completion", "renderer", "resolve_template"]

# What the model is given, what it is asked to predict, and the mark with which it ends a turn, also predicted.
Part = Literal["prompt", "completion", "end"]
Piece = tuple[str, Part]
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
        return lambda low, high: [[(text, "completion")] for text in examples.texts("text", low, high)]
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
            [(wrap(instruction, given), "prompt"), (output, "completion")]
            for instruction, given, output in _instructions(examples, low, high)
        ]
    return lambda low, high: [
        [(wrap(prompt, ""), "prompt"), (completion, "completion")]
        for prompt, completion in _prompts(examples, low, high)
    ]


def last_completion(row: Sequence[Piece]) -> list[Piece]:
    """A rendered row with its last completion alone to be predicted, and all before it as one prompt."""
    last = max((k for k, (_, part) in enumerate(row) if part == "completion"), default=len(row))
    return [("".join(text for text, _ in row[:last]), "prompt"), *row[last:]]


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
        return [(f"{a}\n{b}" if b else a, c) for a, b, c in _instructions(examples, low, high)]
    prompts, completions = examples.texts("prompt", low, high), examples.texts("completion", low, high)
    return list(zip(prompts, completions, strict=True))


def _instructions(examples: Examples, low: int, high: int) -> list[tuple[str, str, str]]:
    instructions, outputs = examples.texts("instruction", low, high), examples.texts("output", low, high)
    inputs = examples.texts("input", low, high) if "input" in examples.columns else [""] * (high - low)
    return [(a, b or "", c) for a, b, c in zip(instructions, inputs, outputs, strict=True)]


# Stands for a turn's content while a template is looked at; a word, so that no filter has reason to change it.
_PLACEHOLDER = "qzTurn{}Xzq"
_PLACEHOLDERS = re.compile(r"qzTurn(\d+)Xzq")


class _Chat:
    """Renders a conversation and finds the assistant turns in it.

    Searching the text for an answer would find "A" in a role heading. So the template is also rendered, once per
    sequence of roles, around placeholders, which shows what it puts around the contents.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = tokenizer.chat_template
        self.skeletons: dict[tuple[tuple[str, bool], ...], list[str]] = {}
        ending = {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())}
        ending -= {tokenizer.bos_token, tokenizer.unk_token, tokenizer.pad_token, None}
        if tokenizer.eos_token:
            ending.add(tokenizer.eos_token)
        marks = "|".join(re.escape(mark) for mark in sorted(ending, key=lambda mark: (-len(mark), mark)) if mark)
        self.end_of_turn = re.compile(rf"\s*(?:{marks})" if marks else r"(?!)")

    def pieces(self, turns: list[dict[str, str]], row: int) -> list[Piece]:
        if not self.template:
            return _role_headings(turns)
        try:
            text = self._render(turns)
        except Exception as error:  # Jinja raises whatever the template's author chose
            reason = " ".join(str(error).split())
            raise InputError(
                f"row {row}: the tokenizer's chat template refused the conversation ({reason[:200]}); "
                "change the roles, or choose a proxy whose template accepts them"
            ) from error
        spans = self._between_skeleton(turns, text)
        if spans is None:
            spans = self._after_generation_prompt(turns, text)
        if spans is None:
            raise InputError(
                f"row {row}: the tokenizer's chat template rewrites or leaves out an assistant turn, so it cannot be "
                "told apart from the prompt; choose another proxy or give the data as prompt and completion"
            )
        pieces: list[Piece] = []
        position = 0
        for start, end in spans:
            mark = self.end_of_turn.match(text, end)
            pieces += [(text[position:start], "prompt"), (text[start:end], "completion")]
            position = mark.end() if mark else end
            pieces.append((text[end:position], "end"))
        # What follows the last assistant turn predicts nothing that counts.
        return [piece for piece in pieces if piece[0]] or [(text, "prompt")]

    def _render(self, turns: list[dict[str, str]], **options: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, **options)
        return text

    def _between_skeleton(self, turns: list[dict[str, str]], text: str) -> list[tuple[int, int]] | None:
        """(start, end) of each assistant content; None where the text around contents depends on the contents."""
        shape = tuple((turn["role"], bool(turn["content"])) for turn in turns)
        if shape not in self.skeletons:
            self.skeletons[shape] = self._skeleton(turns)
        first, *rest = self.skeletons[shape]
        numbers, literals = [int(number) for number in rest[::2]], rest[1::2]
        answers = {k for k, turn in enumerate(turns) if turn["role"] == "assistant" and turn["content"]}
        if not text.startswith(first) or not answers <= set(numbers):
            return None
        spans, position = [], len(first)
        for number, literal in zip(numbers, literals, strict=True):
            content = turns[number]["content"]
            fitting = (
                position + len(each)
                for each in dict.fromkeys([content, content.strip(), content.lstrip(), content.rstrip()])
                if text.startswith(each + literal, position)
            )
            end = next(fitting, None)
            if end is None:
                return None
            if number in answers and end > position:
                spans.append((position, end))
            position = end + len(literal)
        return spans if position == len(text) else None

    def _skeleton(self, turns: list[dict[str, str]]) -> list[str]:
        """Literal, number of a turn, literal, ..., literal."""
        filled = [
            {"role": turn["role"], "content": _PLACEHOLDER.format(k) if turn["content"] else ""}
            for k, turn in enumerate(turns)
        ]
        return _PLACEHOLDERS.split(self._render(filled))

    def _after_generation_prompt(self, turns: list[dict[str, str]], text: str) -> list[tuple[int, int]] | None:
        """The same where the template looks into the contents, as reasoning models' do: an answer is what follows
        the generation prompt. None where that is not the answer itself, white space apart.
        """
        spans = []
        for k, turn in enumerate(turns):
            if turn["role"] != "assistant" or not turn["content"]:
                continue
            before = self._render(turns[:k], add_generation_prompt=True)
            if not text.startswith(before):
                return None
            end = len(before) + len(turn["content"])
            if not (text.startswith(turn["content"], len(before)) and self.end_of_turn.match(text, end)):
                found = self._end_of_last(self._render(turns[: k + 1]), len(before), text)
                if found is None or "".join(text[len(before) : found].split()) != "".join(turn["content"].split()):
                    return None
                end = found
            spans.append((len(before), end))
        return spans

    def _end_of_last(self, through: str, start: int, text: str) -> int | None:
        """Where the content of the last turn of `through`, which begins at `start`, ends; None if `text` differs."""
        if not text.startswith(through):
            return None
        end = len(through.rstrip())
        marks = [mark.start() for mark in self.end_of_turn.finditer(through, start) if mark.end() == end]
        return marks[0] if marks else end


def _role_headings(turns: list[dict[str, str]]) -> list[Piece]:
    """For tokenizers without a chat template: `### Role:` headings, up to the last assistant turn."""
    pieces: list[Piece] = []
    last = max((k for k, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns) - 1)
    for turn in turns[: last + 1]:
        pieces.append((f"### {turn['role'].capitalize()}:\n", "prompt"))
        pieces.append((turn["content"], "completion" if turn["role"] == "assistant" else "prompt"))
        pieces.append(("\n\n", "prompt"))
    return pieces[:-1]
