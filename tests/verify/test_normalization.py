"""Answers without what does not change their meaning, and lists split at their own separators."""

from __future__ import annotations

import pytest

from curate.verify.normalization import braced, clean, join_thousands, split_top, unwrap


@pytest.mark.parametrize(
    "text",
    ["**18**", "$18$", r"\(18\)", r"\[ 18. \]", r"\boxed{18}", r"$$\boxed{\text{18}}$$", "`18`;", "\u200b18\ufeff"],
)
def test_what_stands_around_an_answer_is_left_out(text: str) -> None:
    assert clean(text) == "18"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"\tfrac{1}2", r"\frac{1}{2}"),
        (r"\frac\pi4", r"\frac{\pi}{4}"),
        (r"{5 \choose 2}", r"\binom{5}{2}"),
        ("\u00bd", r"\frac{1}{2}"),
        (r"45^\circ", "45 degrees"),
        (r"1{,}800", "1,800"),
        (r"\left(1,\, 2\right)", "(1, 2)"),
    ],
)
def test_one_notation_for_one_thing(text: str, plain: str) -> None:
    assert clean(text) == plain
    assert clean(plain) == plain


def test_marks_that_belong_to_the_answer_stay() -> None:
    assert unwrap("$1$ and $2$") == "$1$ and $2$"
    assert unwrap("0.333...") == "0.333..."
    assert unwrap(r"\boxed{1}+\boxed{2}") == r"\boxed{1}+\boxed{2}"


def test_lists_are_split_at_separators_that_are_in_no_bracket() -> None:
    assert split_top("(1, 2), [3, 4); {5}") == ["(1, 2)", "[3, 4)", "{5}"]
    assert split_top("1, 2, and 3") == ["1", "2", "3"]
    assert split_top("1,800 and 2") == ["1,800", "2"]
    assert split_top("1, 2)") is split_top("(1, 2") is split_top("1,") is None


def test_braces_close_at_their_own_partner() -> None:
    assert braced(r"x{a{b}\}c}d", 1) == (r"a{b}\}c", 10)
    assert braced("{{a}", 0) is None
    assert join_thousands("1,800 and 12,34 and 1,234,567") == "1800 and 12,34 and 1234567"
