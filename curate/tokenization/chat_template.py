"""Render conversations with a tokenizer's chat template, and locate the turns in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from curate.errors import InputError
from curate.tokenization.layouts import Layout, Part, Piece, RefusedRow

# In tokenizer_config.json of a model that was trained with its tokenizer's chat template, and not with role headings.
HAD_TEMPLATE = "trained_with_chat_template"

Turn = dict[str, Any]
Span = tuple[int, int, int]  # number of a turn, where its content begins in the text, and where it ends

# Stands for a turn's content while a template is looked at; a word, so that no filter has reason to change it.
_PLACEHOLDER = "qzTurn{}Xzq"
_PLACEHOLDERS = re.compile(r"qzTurn(\d+)Xzq")
_PREAMBLE = ("system", "developer")
_TURN_CHARACTERS = 64  # that the few tokens which a template puts around a turn count as, see `Layout.older`


def check_chat_template(settings: Mapping[str, Any], name: str) -> None:
    """InputError where a tokenizer without a chat template had one when its model was trained.

    Role headings, or no turns at all, would take its place, which the model has never seen.
    """
    if settings.get(HAD_TEMPLATE):
        raise InputError(
            f"{name} was fine-tuned with a chat template that is missing (chat_template.jinja, beside its "
            "tokenizer); put the file back, or rerun its `curate finetune` command with --fresh"
        )


class Chat:
    """Renders conversations and finds the turns in them.

    Searching the text for an answer would find "A" in a role heading. So the template is also rendered, once per
    sequence of roles, around placeholders, which shows what it puts around the contents. Where that depends on the
    contents, as with reasoning that a template drops from earlier turns, each turn is looked for by itself, and what
    the template keeps of it is predicted. A tokenizer without a template gets plain role headings.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = tokenizer.chat_template
        if not self.template:
            check_chat_template(getattr(tokenizer, "init_kwargs", {}), tokenizer.name_or_path)
        self.skeletons: dict[tuple[tuple[str, bool], ...], list[str] | None] = {}
        ending = {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())}
        ending -= {tokenizer.bos_token, tokenizer.unk_token, tokenizer.pad_token, None}
        if tokenizer.eos_token:
            ending.add(tokenizer.eos_token)
        marks = "|".join(re.escape(mark) for mark in sorted(ending, key=lambda mark: (-len(mark), mark)) if mark)
        self.end_of_turn = re.compile(rf"\s*(?:{marks})" if marks else r"(?!)")

    def layout(self, turns: list[Turn]) -> Layout:
        """A conversation; what may be left out of it are its oldest exchanges, whole, never the system's words."""
        preamble, begins = _exchanges(turns)
        sizes = [sum(len(turn["content"]) + _TURN_CHARACTERS for turn in turns[a:b]) for a, b in pairwise(begins)]

        def pieces(dropped: int) -> list[Piece]:
            rest = [*turns[:preamble], *turns[begins[dropped] :]]
            return self._pieces(rest, _parts(rest, preamble, preamble + begins[-1] - begins[dropped]))

        return Layout(pieces, sizes)

    def _pieces(self, turns: list[Turn], parts: list[Part]) -> list[Piece]:
        """parts: what the content of each turn is."""
        if not self.template:
            return _role_headings(turns, parts)
        text = self._render(turns)
        spans = self._between_skeleton(turns, text)
        if spans is None:
            spans = self._one_by_one(turns, parts, text)
        if not any(parts[k] == "completion" for k, _, _ in spans):
            if any(turn["content"] for turn, part in zip(turns, parts, strict=True) if part == "completion"):
                raise RefusedRow("the tokenizer's chat template leaves out every assistant turn")
            return [(text, "frame")]
        pieces: list[Piece] = []
        position = 0
        for k, start, end in spans:
            pieces += [(text[position:start], "frame"), (text[start:end], parts[k])]
            position = end
            if parts[k] == "completion":
                mark = self.end_of_turn.match(text, end)
                position = mark.end() if mark else end
                pieces.append((text[end:position], "end"))
                through = len(pieces)
        # What follows the last assistant turn predicts nothing that counts.
        return [piece for piece in pieces[:through] if piece[0]]

    def _render(self, turns: list[Turn], **options: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, **options)
        except Exception as error:  # Jinja raises whatever the template's author chose
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RefusedRow(f"the tokenizer's chat template refused the conversation ({reason})") from error
        return text

    def _between_skeleton(self, turns: list[Turn], text: str) -> list[Span] | None:
        """(turn, start, end) of the contents; None where the text around contents depends on the contents."""
        shape = tuple((turn["role"], bool(turn["content"])) for turn in turns)
        if shape not in self.skeletons:
            self.skeletons[shape] = self._skeleton(turns)
        skeleton = self.skeletons[shape]
        if skeleton is None:
            return None
        first, *rest = skeleton
        numbers, literals = [int(number) for number in rest[::2]], rest[1::2]
        answers = {k for k, turn in enumerate(turns) if turn["role"] == "assistant" and turn["content"]}
        if not text.startswith(first) or not answers <= set(numbers):
            return None
        spans, position = [], len(first)
        for number, literal in zip(numbers, literals, strict=True):
            content = turns[number]["content"]
            fitting = (
                position + len(shown)
                for shown in dict.fromkeys([content, content.strip(), content.lstrip(), content.rstrip()])
                if text.startswith(shown, position) and text.startswith(literal, position + len(shown))
            )
            end = next(fitting, None)
            if end is None:
                return None
            if end > position:
                spans.append((number, position, end))
            position = end + len(literal)
        return spans if position == len(text) else None

    def _skeleton(self, turns: list[Turn]) -> list[str] | None:
        """Literal, number of a turn, literal, ..., literal; None where the template takes no placeholders."""
        filled = [
            {**turn, "content": _PLACEHOLDER.format(k) if turn["content"] else ""} for k, turn in enumerate(turns)
        ]
        try:
            return _PLACEHOLDERS.split(self._render(filled))
        except RefusedRow:
            return None

    def _one_by_one(self, turns: list[Turn], parts: list[Part], text: str) -> list[Span]:
        """The same for a template that looks into the contents: of each turn, what it keeps."""
        wanted = [k for k, part in enumerate(parts) if part != "frame" and turns[k]["content"]]
        candidates = [span for k in wanted if (span := self._kept(turns, k, text)) is not None]
        spans: list[Span] = []
        for span in sorted(candidates, key=lambda span: span[1]):
            if not spans or spans[-1][2] <= span[1]:
                spans.append(span)
            elif parts[spans[-1][0]] != "completion":  # what is shown within an answer is part of it
                spans[-1] = span
        return spans

    def _kept(self, turns: list[Turn], k: int, text: str) -> Span | None:
        """Where the template shows turn k; None where it leaves it out. RefusedRow for an answer that it rewrites."""
        number = k
        while (placeholder := _PLACEHOLDER.format(number)) in text:
            number += len(turns)
        answer = turns[k]["role"] == "assistant"
        try:
            probe = self._render([*turns[:k], {**turns[k], "content": placeholder}, *turns[k + 1 :]])
            left, separator, right = probe.partition(placeholder)
            if not separator or _is_without(text, probe, len(left), len(probe) - len(right)):
                return None
            if answer and not text.startswith(left):
                # Around its last answer a template may show thoughts, if only that there are none.
                left = self._render(turns[:k], add_generation_prompt=True)
        except RefusedRow:
            return self._missing(answer)
        start, end = len(left), len(text) - len(right)
        if not (text.startswith(left) and text.endswith(right) and start <= end):
            return self._missing(answer)
        shown = _without_spaces(text[start:end])
        if shown not in _without_spaces(turns[k]["content"]):
            return self._missing(answer)
        return (k, start, end) if shown else None

    def _missing(self, answer: bool) -> Span | None:
        if not answer:
            return None  # that it cannot be cut is no reason to do without the row
        raise RefusedRow(
            "the tokenizer's chat template rewrites an assistant turn, so that it cannot be told apart from the prompt"
        )


def _is_without(text: str, probe: str, start: int, end: int) -> bool:
    """Whether `text` is `probe` without probe[start:end] and perhaps what is around it: the turn that stands there."""
    if len(text) >= len(probe):
        return False
    low, high = 0, min(len(text), start)
    while low < high:  # the longest beginning that both have
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text.startswith(probe[:middle]) else (low, middle - 1)
    rest = text[low:]
    return probe.endswith(rest) and len(probe) - len(rest) >= end


def _without_spaces(text: str) -> bytes:
    return text.encode(errors="surrogatepass").translate(None, b" \t\n\r\f\v")


def _exchanges(turns: Sequence[Turn]) -> tuple[int, list[int]]:
    """(how many turns are the preamble, number of the first turn of each exchange up to that of the last answer)."""
    preamble = next((k for k, turn in enumerate(turns) if turn["role"] not in _PREAMBLE), len(turns))
    answers = (k for k in range(len(turns) - 1, -1, -1) if turns[k]["role"] == "assistant" and turns[k]["content"])
    last = next(answers, len(turns) - 1)
    users = [k for k in range(preamble + 1, last) if turns[k]["role"] == "user" != turns[k - 1]["role"]]
    return preamble, [preamble, *users]


def _parts(turns: Sequence[Turn], preamble: int, last: int) -> list[Part]:
    """What each content is. last: where the last exchange begins; older questions are only left out with their turn."""

    def part(k: int, role: str) -> Part:
        if role == "assistant":
            return "completion"
        if preamble <= k < last:
            return "frame"
        return "question" if role == "user" else "system"

    return [part(k, turn["role"]) for k, turn in enumerate(turns)]


def _role_headings(turns: Sequence[Turn], parts: Sequence[Part]) -> list[Piece]:
    """For tokenizers without a chat template: `### Role:` headings, up to the last assistant turn."""
    pieces: list[Piece] = []
    last = max((k for k, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns) - 1)
    for turn, part in zip(turns[: last + 1], parts, strict=False):
        pieces += [(f"### {turn['role'].capitalize()}:\n", "frame"), (turn["content"], part), ("\n\n", "frame")]
    return pieces[:-1]
