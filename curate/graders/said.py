"""What a completion says, without what was thought before it and the marks around it."""

from __future__ import annotations

import re

_EDGE = r"(?:<\|[A-Za-z][\w ]{0,40}\|>|</?s>|\s)+"
_MARKS = re.compile(rf"\A{_EDGE}|{_EDGE}\Z")
_OPENING, _CLOSING = "<think>", "</think>"


def final_words(text: str) -> str | None:
    """The text behind its reasoning, without marks at its ends; None where the reasoning does not end."""
    text = _MARKS.sub("", text)
    if text.startswith(_OPENING):
        _, closed, text = text.partition(_CLOSING)
        return _MARKS.sub("", text) if closed else None
    # Some templates open the reasoning in the prompt: all that a completion has of it is the end.
    before, closed, after = text.partition(_CLOSING)
    return _MARKS.sub("", after) if closed and "<tool_call>" not in before and "{" not in before else text
