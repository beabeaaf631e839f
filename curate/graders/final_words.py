"""Final words of a completion, without its reasoning and without markers around them."""

from __future__ import annotations

import re

_EDGE = r"(?:<\|[A-Za-z][\w ]{0,40}\|>|</?s>|\s)+"
_MARKS = re.compile(rf"\A{_EDGE}|{_EDGE}\Z")
_OPENING, _CLOSING = "<think>", "</think>"


def final_words(text: str) -> str | None:
    """The text after the reasoning, without markers at its ends; None if the reasoning does not end."""
    text = _MARKS.sub("", text)
    if text.startswith(_OPENING):
        _, closed, text = text.partition(_CLOSING)
        return _MARKS.sub("", text) if closed else None
    # Some templates open the reasoning in the prompt, so that a completion only holds its end.
    before, closed, after = text.partition(_CLOSING)
    return _MARKS.sub("", after) if closed and "<tool_call>" not in before and "{" not in before else text
