"""Numbers in English words, and words that are none."""

from __future__ import annotations

import pytest

from curate.verify import grade, same_answer
from curate.verify.number_words import in_digits
from tests.fixtures.answers import RIGHT, both_ways


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("five", "5"),
        ("Twenty-one", "21"),
        ("one hundred", "100"),
        ("five hundred and six", "506"),
        ("minus 5", "-5"),
        ("two thousand three hundred and forty-five", "2345"),
        ("fifteen hundred", "1500"),
        ("a dozen", "12"),
        ("2 dozen", "24"),
        ("two and a half", "5/2"),
        ("3 and 1/2", "7/2"),
        ("one-third", "1/3"),
        ("three quarters", "3/4"),
        ("negative five", "-5"),
        ("1.5 million", "1500000"),
        ("zero", "0"),
        ("3 eighths", "3/8"),
        ("five apples", "5 apples"),
    ],
)
def test_words_are_numbers(words: str, number: str) -> None:
    assert in_digits(words) == number
    assert both_ways(words, number) == {RIGHT}
    assert grade(f"The answer is {words}.", number) is RIGHT
    assert same_answer(words, "77") is not RIGHT


@pytest.mark.parametrize(
    "words",
    [
        "third",
        "five or six",
        "a cat",
        "hundred",
        "twenty twenty",
        "one two three",
        "five point two",
        "seven-eleven",
        "five-star",
        "one more than two",
        "and",
        "no five",
        "not five",
        "5",
        "1/2",
        "five million million",
        "twenty one hundred",
    ],
)
def test_words_that_are_no_number(words: str) -> None:
    assert in_digits(words) is None
