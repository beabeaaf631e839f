"""Numbers that a problem states and no solution uses."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.givens_used import fault

SOLUTIONS = ["5 * 3 = 15. The 9 chairs do not matter. \\boxed{15}", "Adding up gives \\boxed{15}"]


@pytest.mark.parametrize(
    ("problem", "unused"),
    [
        ("Tom has 5 boxes of 3 pens. How many pens?", None),
        ("Tom has 5 boxes of 3 pens, and 7 books. How many pens?", "7"),
        ("Tom has 5 boxes of 3 pens and 9 chairs. How many pens?", "9"),  # named as of no use
        ("In 2019 Tom had 5 boxes of 3 pens in room 12. How many pens in 1 day?", None),
        ("On the 3rd day at 10:45 Tom had 5 boxes of 3 pens. How many pens?", None),
        ("Which is it? A) 5 B) 12 C) 18", None),
    ],
)
def test_what_is_stated_is_used(problem: str, unused: str | None) -> None:
    assert fault(problem, SOLUTIONS) == unused


def test_percentages_and_prose_are_uses() -> None:
    assert fault("A hat of $40 is 20% off. What is its price?", ["40 * 0.8 = 32"]) is None
    assert fault("3 packs of 4, then 2 more. How many?", ["3 packs of 4 are 12 in all. 12 + 2 = 14"]) is None


def test_without_a_solution_that_calculates_nothing_is_said() -> None:
    assert fault("Tom has 5 boxes and 7 books. How many?", ["It is \\boxed{5}"]) is None
    assert fault("Tom has 5 boxes and 7 books. How many?", []) is None
