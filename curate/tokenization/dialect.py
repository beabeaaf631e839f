"""Detect by rendering how a chat template handles tools, tool calls, reasoning and roles, and adapt turns to it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curate.data.turns import Turn, argument_text
from curate.errors import DataWarning, reason_of
from curate.tokenization.layouts import Piece, RefusedRow

Tools = Sequence[dict[str, Any]] | None

# Words that no template contains and no template filter changes.
_NAME, _VALUE, _THOUGHT, _ASKED = "qzNameXzq", "qzValueXzq", "qzThoughtXzq", "qzAskedXzq"
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
# Replaces all tools of a row; its keys are in an unusual order, so that rendered tools differ from their beginning on.
_OTHER_TOOL = {
    "function": {"parameters": {"properties": {}, "type": "object"}, "description": "qzToolXzq", "name": "qzToolXzq"},
    "type": "function",
}


@dataclass(frozen=True)
class _CallForm:
    """The form of tool calls that a template renders.

    text: whether arguments are JSON text instead of an object. empty: content of a turn that has only calls.
    """

    text: bool
    empty: str | None


class Dialect:
    """Adapts turns to one chat template, and warns once about each feature that the template leaves out."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._warned: set[str] = set()

    def render(self, turns: Sequence[Turn], tools: Tools = None, **options: bool) -> str:
        """Render turns that are already `adapted`. Raises RefusedRow with the template's own message."""
        if tools:
            options = {**options, "tools": list(tools)}  # type: ignore[dict-item]
        try:
            text: str = self.tokenizer.apply_chat_template(list(turns), tokenize=False, **options)
        except Exception as error:  # Jinja raises whatever the template's author chose
            raise RefusedRow(f"the tokenizer's chat template refused the conversation ({reason_of(error)})") from error
        return text

    def adapted(self, turns: Sequence[Turn], tools: Tools) -> list[Turn]:
        """The turns with calls, reasoning and roles in the form that the template renders."""
        if tools and not self._shows_tools:
            self._warn("tools", "tools, so the model does not see them")
        return [self._adapted(turn) for turn in turns]

    def _adapted(self, turn: Turn) -> Turn:
        """One turn with role, reasoning and calls in the form that the template renders."""
        adapted = {key: value for key, value in turn.items() if key != "train"}
        if adapted["role"] == "developer":
            adapted["role"] = self._developer
        if "reasoning_content" in adapted:
            thought = adapted.pop("reasoning_content")
            if self._reasoning_key is None:
                self._warn("reasoning", "reasoning, so it is not learned")
            else:
                adapted[self._reasoning_key] = thought
        if "tool_calls" in adapted:
            form = self._call_form
            if form is None:
                self._warn("calls", "tool calls, so they are not learned")
                del adapted["tool_calls"]
            else:
                adapted["tool_calls"] = _calls_in(adapted["tool_calls"], form)
                adapted["content"] = adapted["content"] or form.empty
        return adapted

    def with_other_tool(self, turns: Sequence[Turn]) -> str:
        """Render the turns with `_OTHER_TOOL` as their only tool; "" if the template refuses it."""
        try:
            return self.render(turns, [_OTHER_TOOL])
        except RefusedRow:
            return ""

    def _warn(self, feature: str, leaves_out: str) -> None:
        if feature in self._warned:
            return
        self._warned.add(feature)
        name = getattr(self.tokenizer, "name_or_path", "") or "the tokenizer"
        warnings.warn(f"the chat template of {name} leaves out {leaves_out}", DataWarning, stacklevel=2)

    # -- features of the template -------------------------------------------------------------------------------------

    def _probe(self, turns: list[Turn], tools: Tools = None) -> str:
        try:
            return self.render(turns, tools)
        except RefusedRow:
            return ""

    @cached_property
    def _shows_tools(self) -> bool:
        function = {"name": _NAME, "description": "d", "parameters": {"type": "object", "properties": {}}}
        tools = [{"type": "function", "function": function}]
        return _NAME in self._probe([_asked(), {"role": "assistant", "content": "a"}], tools)

    @cached_property
    def _reasoning_key(self) -> str | None:
        for key in _REASONING_KEYS:
            if _THOUGHT in self._probe([_asked(), {"role": "assistant", "content": "a", key: _THOUGHT}]):
                return key
        return None

    @cached_property
    def _call_form(self) -> _CallForm | None:
        """The first form in which a call is rendered completely; most templates take an object, some take text."""
        call = {"type": "function", "id": "abcdefghi", "function": {"name": _NAME, "arguments": {"a": _VALUE}}}
        for form in (_CallForm(text, empty) for text in (False, True) for empty in ("", None)):
            answer = {"role": "assistant", "content": form.empty, "tool_calls": _calls_in([call], form)}
            text = self._probe([_asked(), answer])
            if _NAME in text and _VALUE in text and f'\\"{_VALUE}' not in text:
                return form
        return None

    @cached_property
    def _developer(self) -> str:
        text = self._probe(
            [{"role": "developer", "content": _THOUGHT}, _asked(), {"role": "assistant", "content": "a"}]
        )
        return "developer" if _THOUGHT in text else "system"


def _asked() -> Turn:
    return {"role": "user", "content": _ASKED}


def _calls_in(calls: list[dict[str, Any]], form: _CallForm) -> list[dict[str, Any]]:
    if not form.text:
        return calls
    return [{**call, "function": {**call["function"], "arguments": argument_text(call)}} for call in calls]


def shared(text: str, other_text: str) -> int:
    """Length of the longest common prefix."""
    low, high = 0, min(len(text), len(other_text))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text.startswith(other_text[:middle]) else (low, middle - 1)
    return low


def differing(texts: Sequence[str], other_texts: Sequence[str]) -> list[tuple[int, int, int]]:
    """(index of a text, start, end) of the part that remains without the prefix and suffix shared with its other."""
    if len(texts) != len(other_texts):
        return []
    spans = []
    for k, (text, other_text) in enumerate(zip(texts, other_texts, strict=True)):
        if text != other_text and other_text:
            start = shared(text, other_text)
            spans.append((k, start, len(text) - shared(text[start:][::-1], other_text[start:][::-1])))
    return spans


def with_tools(text: str, start: int, end: int, tools: Sequence[tuple[int, int]]) -> list[Piece]:
    """text[start:end] as template text ("frame"), with rendered tools as pieces that may be cut ("system").

    tools: (start, end) of the rendered tools in the text.
    """
    pieces: list[Piece] = []
    for low, high in tools:
        if start <= low and high <= end:
            pieces += [(text[start:low], "frame"), (text[low:high], "system")]
            start = high
    return [*pieces, (text[start:end], "frame")]
