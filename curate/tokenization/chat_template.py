"""Render conversations with a tokenizer's chat template, and locate the turns in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from curate.data.turns import Turn, said_characters
from curate.tokenization.default_template import check_chat_template, own_template, role_headings
from curate.tokenization.dialect import Dialect, Tools, differing, shared, with_tools
from curate.tokenization.layouts import (
    Layout,
    Part,
    Piece,
    RefusedRow,
    exchanges_of,
    is_more_than_content,
    parts_of,
    rounds_of,
    speaks,
)

Span = tuple[int, int, int]  # number of a turn, where its content begins in the text, and where it ends

# Replaces a turn's content while a template is probed; a single word, so that no template filter changes it.
_PLACEHOLDER = "qzTurn{}Xzq"
_PLACEHOLDERS = re.compile(r"qzTurn(\d+)Xzq")

_SKELETONS = 1000  # size of the cache; rows with their own tools or call ids need one each
_TURN_CHARACTERS = 64  # characters that the template's tokens around a turn count as, see `Layout.older`


class Chat:
    """Renders conversations and finds the turns in them.

    Searching the rendered text for an answer such as "A" would find it in a role heading. Instead the template is also
    rendered with placeholders as contents, once per sequence of roles, which shows the text around the contents. Where
    that text depends on the contents, as with reasoning that a template drops from earlier turns, each turn is located
    by itself, and what the template keeps of it is predicted. Of an answer with reasoning or tool calls, everything
    rendered in place of a plain answer is predicted. Without a template, `role_headings` are used.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = own_template(tokenizer)
        self.dialect = Dialect(tokenizer)
        if not tokenizer.chat_template:
            check_chat_template(getattr(tokenizer, "init_kwargs", {}), tokenizer.name_or_path)
        self.skeletons: dict[str, _Skeleton | None] = {}
        ending = {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())}
        ending -= {tokenizer.bos_token, tokenizer.unk_token, tokenizer.pad_token, None}
        if tokenizer.eos_token:
            ending.add(tokenizer.eos_token)
        marks = "|".join(re.escape(mark) for mark in sorted(ending, key=lambda mark: (-len(mark), mark)) if mark)
        self.end_of_turn = re.compile(rf"\s*(?:{marks})" if marks else r"(?!)")
        self.last_mark = re.compile(rf"(?:{marks})\s*\Z" if marks else r"(?!)")

    def layout(self, turns: Sequence[Turn], tools: Tools = None) -> Layout:
        """The pieces of a conversation, with what may be dropped from it.

        Dropped are whole exchanges, oldest first, and then, between the last question and its answer, whole rounds of
        tool calls and results. The system prompt always stays.
        """
        preamble, begins = exchanges_of(turns)
        rounds = rounds_of(turns, begins[-1])
        sizes = [
            sum(said_characters(turn) + _TURN_CHARACTERS for turn in turns[a:b])
            for a, b in [*pairwise(begins), *pairwise(rounds)]
        ]

        def pieces(dropped: int) -> list[Piece]:
            exchanges = min(dropped, len(begins) - 1)
            first = begins[exchanges]
            first_round, round_kept = rounds[0], rounds[dropped - exchanges]
            rest = [*turns[:preamble], *turns[first:first_round], *turns[round_kept:]]
            return self._pieces(rest, parts_of(rest, preamble, preamble + begins[-1] - first), tools)

        return Layout(pieces, sizes)

    def _pieces(self, turns: list[Turn], parts: list[Part], tools: Tools) -> list[Piece]:
        """The pieces of the rendered turns. parts: the part that the content of each turn is."""
        if not self.template:
            return role_headings(turns, parts, tools)
        row = _Row(self.dialect, self.dialect.adapted(turns, tools), tools)
        tool_spans: list[tuple[int, int]] = []
        spans = self._between_skeleton(row, tool_spans)
        if spans is None:
            spans = self._one_by_one(row, parts)
            other_tool = [self.dialect.with_other_tool(row.turns)] if tools else []
            tool_spans = [(start, end) for _, start, end in differing([row.text], other_tool)]
        if not any(parts[k] == "completion" for k, _, _ in spans):
            if any(speaks(turn) for turn, part in zip(turns, parts, strict=True) if part == "completion"):
                raise RefusedRow("the tokenizer's chat template leaves out every assistant turn")
            return [(row.text, "frame")]
        pieces: list[Piece] = []
        position = 0
        for k, start, end in spans:
            pieces += [*with_tools(row.text, position, start, tool_spans), (row.text[start:end], parts[k])]
            position = end
            if parts[k] == "completion":
                mark = self.end_of_turn.match(row.text, end)
                position = mark.end() if mark else end
                pieces.append((row.text[end:position], "end"))
                through = len(pieces)
        # The text after the last assistant turn is not trained on.
        return [piece for piece in pieces[:through] if piece[0]]

    def _between_skeleton(self, row: _Row, tool_spans: list[tuple[int, int]]) -> list[Span] | None:
        """The spans of the contents; None where the text around them depends on the contents.

        tool_spans: (start, end) of the rendered tools is appended here.
        """
        skeleton = self._skeleton(row)
        if skeleton is None:
            return None
        text = row.text
        first, *rest = skeleton.texts
        numbers, literals = [int(number) for number in rest[::2]], rest[1::2]
        answers = {k for k, turn in enumerate(row.turns) if turn["role"] == "assistant" and speaks(turn)}
        if not text.startswith(first) or not answers <= set(numbers):
            return None
        spans, position = [], len(first)
        begins = [0]  # where each literal begins
        for i, (number, literal) in enumerate(zip(numbers, literals, strict=True)):
            turn = row.turns[number]
            if is_more_than_content(turn):
                end = _end_before(text, position, literal, last=i + 1 == len(numbers))
                if end is None or not _holds_all(text[position:end], turn):
                    return None
            else:
                content = turn["content"]
                fitting = (
                    position + len(variant)
                    for variant in dict.fromkeys([content, content.strip(), content.lstrip(), content.rstrip()])
                    if text.startswith(variant, position) and text.startswith(literal, position + len(variant))
                )
                end = next(fitting, None)
                if end is None and turn["role"] == "tool":  # some templates render results as JSON strings
                    end = _end_before(text, position, literal, last=i + 1 == len(numbers))
                if end is None:
                    return None
            if end > position:
                spans.append((number, position, end))
            begins.append(end)
            position = end + len(literal)
        tool_spans += [(begins[k] + low, begins[k] + high) for k, low, high in skeleton.tools]
        return spans if position == len(text) else None

    def _skeleton(self, row: _Row) -> _Skeleton | None:
        """The template rendered with placeholders; None if it refuses them.

        Assistant turns with tool calls or reasoning are rendered as plain answers.
        """
        filled = [
            {"role": "assistant", "content": _PLACEHOLDER.format(k)}
            if is_more_than_content(turn)
            else {**turn, "content": _PLACEHOLDER.format(k) if turn["content"] else ""}
            for k, turn in enumerate(row.turns)
        ]
        key = json.dumps([filled, row.tools or None])
        if key not in self.skeletons:
            if len(self.skeletons) >= _SKELETONS:
                self.skeletons.clear()
            try:
                texts = _PLACEHOLDERS.split(self.dialect.render(filled, row.tools))
                other_texts = _PLACEHOLDERS.split(self.dialect.with_other_tool(filled)) if row.tools else texts
                self.skeletons[key] = _Skeleton(texts, differing(texts[::2], other_texts[::2]))
            except RefusedRow:
                self.skeletons[key] = None
        return self.skeletons[key]

    def _one_by_one(self, row: _Row, parts: list[Part]) -> list[Span]:
        """The spans of the contents under a template that depends on the contents: what it keeps of each turn."""
        located = [k for k, part in enumerate(parts) if part != "frame" and speaks(row.turns[k])]
        candidates = [span for k in located if (span := self._kept(row, k, parts[k])) is not None]
        spans: list[Span] = []
        for span in sorted(candidates, key=lambda span: span[1]):
            if not spans or spans[-1][2] <= span[1]:
                spans.append(span)
            elif parts[spans[-1][0]] != "completion":  # a span within an answer is part of the answer
                spans[-1] = span
        return spans

    def _kept(self, row: _Row, k: int, part: Part) -> Span | None:
        """The span of turn k; None if the template leaves it out. Raises RefusedRow if it rewrites an answer."""
        turns, text = row.turns, row.text
        number = k
        while (placeholder := _PLACEHOLDER.format(number)) in text:
            number += len(turns)
        needed = part == "completion"
        more = is_more_than_content(turns[k])
        probed = {**({"role": "assistant"} if more else turns[k]), "content": placeholder}
        try:
            probe = row.render([*turns[:k], probed, *turns[k + 1 :]])
            before_answer, separator, right = probe.partition(placeholder)
            if not separator or _is_without(text, probe, len(before_answer), len(probe) - len(right)):
                return None
            if needed and not text.startswith(before_answer):
                # A template may render (even empty) reasoning before its last answer.
                before_answer = row.render(turns[:k], add_generation_prompt=True)
        except RefusedRow:
            return self._written(row, k) if more else self._missing(needed)
        start, end = len(before_answer), len(text) - len(right)
        if not (text.startswith(before_answer) and text.endswith(right) and start <= end):
            return self._written(row, k) if more else self._missing(needed)
        return self._checked(turns[k], text, (k, start, end), needed)

    def _written(self, row: _Row, k: int) -> Span | None:
        """The span of an answer with tool calls or reasoning that cannot be probed with a plain answer.

        It lies between the generation prompt and the end of the conversation rendered up to this answer.
        """
        try:
            before_answer = row.render(row.turns[:k], add_generation_prompt=True)
            through = row.render(row.turns[: k + 1])
        except RefusedRow:
            return self._missing(True)
        if not (row.text.startswith(through) and through.startswith(before_answer)):
            return self._missing(True)
        mark = self.last_mark.search(through, len(before_answer))
        end = mark.start() if mark else len(through.rstrip())
        return self._checked(row.turns[k], row.text, (k, len(before_answer), max(end, len(before_answer))), True)

    def _checked(self, turn: Turn, text: str, span: Span, needed: bool) -> Span | None:
        """The span if its text is the turn's content or a part of it; None if it is empty."""
        k, start, end = span
        visible = _without_spaces(text[start:end])
        if not visible:
            return None
        names = [_without_spaces(call["function"]["name"]) for call in turn.get("tool_calls", ())]
        content = _without_spaces(turn["content"] or "")
        if visible in content:
            return k, start, end
        if not is_more_than_content(turn) or not (content in visible or any(name in visible for name in names)):
            return self._missing(needed)
        return k, start, end

    def _missing(self, needed: bool) -> Span | None:
        if not needed:
            return None  # the row stays usable although this turn cannot be cut
        raise RefusedRow(
            "the tokenizer's chat template rewrites an assistant turn, so that it cannot be separated from the prompt"
        )


class _Skeleton(NamedTuple):
    """A template rendered with placeholders.

    texts: literal, number of a turn, literal, ..., literal.
    tools: (number of a literal, start, end) of the rendered tools.
    """

    texts: list[str]
    tools: list[tuple[int, int, int]]


class _Row:
    """A conversation in the form that a template accepts, and its rendered text. Raises RefusedRow."""

    def __init__(self, dialect: Dialect, turns: list[Turn], tools: Tools) -> None:
        self.dialect, self.turns, self.tools = dialect, turns, tools
        self.text = self.render(turns)

    def render(self, turns: Sequence[Turn], **options: bool) -> str:
        return self.dialect.render(turns, self.tools, **options)


def _end_before(text: str, position: int, literal: str, last: bool) -> int | None:
    """The end of a span that begins at `position` and is followed by `literal`; last: `literal` ends the text."""
    if last:
        end = len(text) - len(literal) if text.endswith(literal) else -1
    else:
        end = text.find(literal, position) if literal else -1
    return end if end >= position else None


def _holds_all(shown: str, turn: Turn) -> bool:
    """Whether a text contains the content and all call names of an assistant turn; reasoning is not checked."""
    plain = _without_spaces(shown)
    if _without_spaces(turn["content"] or "") not in plain:
        return False
    names = [_without_spaces(call["function"]["name"]) for call in turn.get("tool_calls", ())]
    return all(plain.count(name) >= names.count(name) for name in names)


def _is_without(text: str, probe: str, start: int, end: int) -> bool:
    """Whether `text` equals `probe` without the turn at probe[start:end] and perhaps the template text around it."""
    if len(text) >= len(probe):
        return False
    rest = text[shared(text, probe[:start]) :]
    return probe.endswith(rest) and len(probe) - len(rest) >= end


def _without_spaces(text: str) -> bytes:
    return text.encode(errors="surrogatepass").translate(None, b" \t\n\r\f\v")
