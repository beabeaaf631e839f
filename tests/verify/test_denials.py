"""Answers that are denied, doubted or taken back are never right; what only looks like that is no reason to doubt."""

from __future__ import annotations

import pytest

from curate.verify import grade
from curate.verify.denials import denied, retracted
from tests.fixtures.answers import RIGHT

STATED = ["The answer is 7", "<answer>7</answer>", r"\boxed{7}"]


@pytest.mark.parametrize(
    "behind",
    [
        ". My bad, it's 8.",
        ". I take that back: 8",
        ". Strike that - 8.",
        ". That can't be right. It must be 8.",
        ". Edit: 8",
        ". Let me correct myself: 8",
        ". That was a mistake, so 8.",
        ". Or is it 8? Yes, 8.",
        ". Let me recheck. So it's 8.",
        ". Hold on, I forgot one: 8.",
        " is wrong",
        " is not right; 8 is.",
        " would be too easy.",
        ". This is not correct.",
    ],
)
def test_an_answer_that_is_taken_back(behind: str) -> None:
    for text in STATED:
        assert grade(text + behind, "7") is not RIGHT, text
        assert grade(f"{text}{behind}\nThe answer is 8.", "8") is RIGHT


@pytest.mark.parametrize(
    "behind",
    [
        ". Common mistakes include 8.",
        ". Let me double-check: 3+4=7.",
        ". I hope this is right!",
        ". So it is 7.",
        "\n\nWait for the next question.",
        ". This is not right-angled, though.",
        ". There are no other solutions.",
        ". So Tom has 7 and Ann has 8.",
        ". If you made a mistake, recheck step 2.",
        ". It is 7.0.",
    ],
)
def test_an_answer_that_stands(behind: str) -> None:
    for text in STATED:
        assert grade(text + behind, "7") is RIGHT, text
    assert not retracted("7", behind)


@pytest.mark.parametrize(
    "text",
    [
        "I don't think the answer is 7.",
        "I doubt the answer is 7.",
        "It is a myth that the answer is 7.",
        "It is false that the answer is 7.",
        "The incorrect answer is 7.",
        "Nobody believes the answer is 7",
        "The answer is 7, which is wrong.",
        "The previous answer is 7. The new one: 8.",
        "7 is wrong.",
        "7 is not the answer",
        "7 isn't it",
        "7 would be wrong",
        "She has at most 7",
        "She has 7 less than 10",
        "Is it 7?",
        "The answer is anything but 7",
    ],
)
def test_an_answer_that_is_denied(text: str) -> None:
    assert grade(text, "7") is not RIGHT


def test_only_the_clause_of_the_answer_counts() -> None:
    assert not denied("There is no remainder, so ")
    assert not denied("There is no doubt ")
    assert denied("Nobody thinks ")
    assert grade("The correct answer is 7. A common wrong answer is 8.", "7") is RIGHT
    assert grade("Since 7 is not even, the answer is 7", "7") is RIGHT
    assert grade("Nobody thinks B is the correct answer, so C", "B") is not RIGHT
    assert grade("Some say B is the answer, but I choose C.", "C") is RIGHT
