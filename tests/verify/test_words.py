"""Answers that are words: equal, known to exclude each other, or undecided."""

from __future__ import annotations

import pytest

from curate.verify.words import WORDS, compare_words, is_known
from tests.fixtures.answers import UNDECIDED, WRONG


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("Yes", "no", WRONG),
        ("even", "Neither", WRONG),
        ("positive", "even", UNDECIDED),
        ("red", "blue", UNDECIDED),
        ("yes", "42", UNDECIDED),
        ("ab", "cd", None),
        ("x+1", "2", None),
    ],
)
def test_words_are_compared(one: str, other: str, verdict: object) -> None:
    assert compare_words(one, other) is compare_words(other, one) is verdict


def test_what_words_are() -> None:
    assert WORDS.fullmatch("not enough information")
    assert not WORDS.fullmatch("2 apples")
    assert is_known("True")
    assert not is_known("truth")
