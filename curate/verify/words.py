"""Compare answers that consist of words."""

from __future__ import annotations

import re

from curate.verify.verdict import Verdict

WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z]")
_OPPOSITES = ({"true", "false"}, {"yes", "no"}, {"even", "odd", "neither"}, {"positive", "negative", "zero"})


def compare_words(candidate: str, reference: str) -> Verdict | None:
    """Whether words are equal, known to exclude each other, or undecided. None if either text is not words."""
    words = [WORDS.fullmatch(text) is not None and _is_text(text) for text in (candidate, reference)]
    if not any(words):
        return None
    candidate_word, reference_word = candidate.lower(), reference.lower()
    if all(words) and any(candidate_word in group and reference_word in group for group in _OPPOSITES):
        return Verdict.wrong
    return Verdict.undecided


def is_known(words: str) -> bool:
    """Whether the text is one of those known to exclude others."""
    return any(words.lower() in group for group in _OPPOSITES)


def _is_text(words: str) -> bool:
    """Whether letters are words, not a product of variables."""
    return is_known(words) or max(map(len, re.split(r"[ '-]", words))) > 2
