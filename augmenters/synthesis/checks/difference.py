"""Check that a new problem differs from its parent in more than names and numbers."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

REASON = "only names and numbers differ from the parent"

_WORD = re.compile(r"\d[\d,.]*|[^\W\d_]+(?:'[^\W\d_]+)?")
# Capitalized words that are not names, since they begin sentences.
_NO_NAMES = frozenset(
    [
        "a",
        "after",
        "all",
        "an",
        "and",
        "as",
        "at",
        "before",
        "both",
        "by",
        "each",
        "every",
        "find",
        "for",
        "from",
        "how",
        "if",
        "in",
        "it",
        "its",
        "let",
        "most",
        "no",
        "of",
        "on",
        "one",
        "other",
        "she",
        "he",
        "some",
        "suppose",
        "than",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "two",
        "we",
        "what",
        "when",
        "which",
        "while",
        "who",
        "with",
        "you",
        "your",
        "calculate",
        "compute",
        "determine",
        "find",
        "given",
    ]
)


def fault(problem: str, parent: str, least: float) -> str | None:
    """The measured difference if it is below `least`, else None."""
    amount = difference(problem, parent)
    return f"{amount:.2f} of {least:g} asked for" if amount < least else None


def difference(problem: str, parent: str) -> float:
    """Difference of two problems beyond names and numbers, in [0, 1]; 0 = none.

    One minus difflib's ratio (the share of words in common and in the same order), with all numbers replaced by one
    word and all names by another.
    """
    first, second = _masked(problem), _masked(parent)
    if not first and not second:
        return 0.0
    return 1.0 - SequenceMatcher(None, first, second, autojunk=False).ratio()


def _masked(text: str) -> list[str]:
    """The words of a text, with 0 for numbers and Name for words that may be names."""
    words = []
    for match in _WORD.finditer(text):
        word = match[0]
        if word[0].isdigit():
            words.append("0")
        elif word[0].isupper() and word.lower() not in _NO_NAMES:
            words.append("Name")
        else:
            words.append(word.lower())
    return words
