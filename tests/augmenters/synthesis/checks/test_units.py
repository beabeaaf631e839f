"""The unit that is asked for and the unit of the answers."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.units import asked_unit, fault


@pytest.mark.parametrize(
    ("problem", "unit"),
    [
        ("How many hours does it take?", "hours"),
        ("What is the total, in dollars?", "dollars"),
        ("How many days are there? How many hrs is that?", "hours"),
        ("How many pens are there?", None),
        ("How long is it?", None),
        ("How far is it in km?", "kilometers"),
    ],
)
def test_what_is_asked_for(problem: str, unit: str | None) -> None:
    assert asked_unit(problem) == unit


def test_answers_in_another_unit() -> None:
    minutes, hours, bare = "so \\boxed{90 \\text{ minutes}}", "so \\boxed{1.5 hours}", "so \\boxed{90}"
    problem = "How many hours does it take?"
    assert fault(problem, [minutes, bare]) == "asked in hours, answered in minutes"
    assert fault(problem, [hours, bare]) is None
    assert fault(problem, [hours, minutes]) is None
    assert fault(problem, [bare]) is None
    assert fault("How many cents is that?", ["so \\boxed{\\$5}"]) is not None
    assert fault("How many hours?", ["\\boxed{60 \\text{ miles per hour}}"]) is not None
    assert fault("How many pens?", [minutes]) is None


def test_a_problem_that_asks_in_two_units() -> None:
    assert (
        fault("How many cents is it? Give the answer in dollars.", ["\\boxed{5}"]) == "asked in cents, and in dollars"
    )
    assert fault("What is the area in square feet? (All results are stated in square inches.)", []) is not None
    for how in (
        "Write your answer as a number of dollars.",
        "At the end, convert it to dollars.",
        "Use dollars for the answer.",
    ):
        assert fault(f"How many cents is it? {how}", []) == "asked in cents, and in dollars"
    assert fault("Use 3 dollars for the bus. How many cents are left?", []) is None
    assert fault("How many hours is it? Give the answer in hours.", ["\\boxed{5}"]) is None
    assert fault("It costs 300 cents. How much is it? Express your answer in dollars.", ["\\boxed{3}"]) is None
    assert fault("How much is it? Express your answer in dollars.", ["\\boxed{300 \\text{ cents}}"]) is not None
    assert fault("How many hours is it? Write the answer in kilometers.", []) is None  # which no solution can heed
