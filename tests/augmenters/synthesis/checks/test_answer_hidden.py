"""A problem that contains its answer."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.answer_hidden import fault

PARENT = "Tom has 3 boxes with 4 pens each. How many pens has he?"


@pytest.mark.parametrize(
    ("problem", "answer", "told"),
    [
        ("A baker makes 3 trays of 4 buns, 12 buns. How many buns?", "12", True),
        ("A baker makes 3 trays of 4 buns. The answer is twelve. Why?", "12", True),
        (r"A baker makes 3 trays of 4 buns: \boxed{12}. How many?", "12", True),
        ("A baker makes 1,200 buns a day. How many is that in all?", "1200", True),
        (r"What is $x + 1$ if it equals $\frac{3}{4}$ and more?", r"\frac{3}{4}", True),
        ("A price of $18 falls to nothing. How much is that in dollars?", "$18", True),
        ("A pipe of 3 m and one of 4 m are joined: 12cm is lost. How long is it?", "12", True),
        ("A baker makes 3 trays of 4 buns. How many buns are there?", "12", False),
        ("A baker makes 3 trays with 4 buns on each. How many on one?", "4", False),  # a given of the parent too
        ("A baker makes 120 buns at 1.2 each, 3 at a time. How many?", "12", False),
        ("Which of (A) 1 (B) 2 is the number of moons of the Earth?", "A", False),
        ("Work out the sum of the numbers 3 and 4, times one.", "12", False),
        ("Let x be 3 and y be 4. Then find the product of both.", "12", False),
        ("Compute the value of $3 \\cdot 4$ in the usual way.", "12", False),
        ("A baker makes 3 trays of 4 buns, twelve buns. How many?", "12", True),
        ("A baker makes 1 tray of 128, one hundred and twenty-eight. How many?", "128", True),
        ("A baker makes 3 trays of 4 buns, between 11 and 13. How many?", "12", True),
        ("A baker makes 3 trays of 4 buns. Hint: one more than 11. How many?", "12", True),
        ("Three bakers make four buns each, and eleven or more in all. How many?", "12", False),
        ("Ten two-story houses and one hall have how many floors?", "12", False),
        ("A salt solution is 5% strong. The result is 3 times that. How much?", "15", False),
    ],
)
def test_what_gives_the_answer_away(problem: str, answer: str, told: bool) -> None:
    assert (fault(problem, answer, PARENT) is not None) == told
