"""Answers in other notations than the reference are right, and no others become so."""

from __future__ import annotations

import pytest

from curate.verify import same_answer
from tests.fixtures.answers import RIGHT, both_ways

SAME = [
    ("1 234 567", "1234567"),
    ("10 000", "10000"),
    ("1'234'567", "1234567"),
    ("1_234_567", "1234567"),
    ("12,34,567", "1234567"),
    ("1.234.567", "1234567"),
    ("1.234.567,50", "1234567.5"),
    ("12 (twelve)", "12"),
    ("twelve (12)", "12"),
    ("]2,5[", "(2,5)"),
    ("[2,5[", "[2,5)"),
    (r"\{x: 2<x<5\}", "(2,5)"),
    (r"\{x \in \mathbb{R} \mid x>3\}", r"(3,\infty)"),
    ("x = 1 or x = 2", "1, 2"),
    (r"x \le -1 \text{ or } x \ge 4", r"(-\infty,-1]\cup[4,\infty)"),
    (r"x<-1 \text{ or } x>4", "x>4 or x<-1"),
    ("x > -1 and x < 4", "(-1,4)"),
    (r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}"),
    (r"x=\pm3", "x=3 and x=-3"),
    ("3=x", "3"),
    (r"x \approx 3.14", "3.14"),
    (r"\angle ABC = 40^\circ", "40"),
    ("|AB|=5", "5"),
    ("f'(x)=2x", "2x"),
    ("2 to 3", "2:3"),
    (r"x\equiv 5\pmod 7", r"5 \pmod{7}"),
    (r"17 \bmod 5", "2"),
    ("A and C", "A, C"),
    ("AC", "A, C"),
    ("(C) Rome", "C) Rome"),
    ("letter B", "B"),
    ("[B]", "B"),
    ('"Paris"', "Paris"),
    (r"\lg 100", "2"),
    ("5\u215e", "47/8"),
    ("USD 18", "$18"),
    (r"18\text{ cm}^2", "18 square centimeters"),
]
APART = [
    ("1 234 567", "1234568"),
    ("1 5", "15"),
    ("1'5", "15"),
    ("1.234", "1234"),
    ("]2,5[", "[2,5]"),
    ("]2,5[", "(2,6)"),
    (r"x \le -1 \text{ or } x > 4", r"(-\infty,-1]\cup[4,\infty)"),
    (r"x \le -1 \text{ or } x \ge 4", "[-1,4]"),
    ("x = 1 or x = 2", "1"),
    ("x = 1 or y = 2", "1, 2"),
    ("7 or 8", "7"),
    (r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2}"),
    (r"x\equiv 5\pmod 7", r"x\equiv 5\pmod 8"),
    (r"x\equiv 5\pmod 7", r"x\equiv 4\pmod 7"),
    ("17 mod 5", "17"),
    ("A and C", "A"),
    ("A, C", "A, B"),
    ("(C) Rome", "D) Rome"),
    ("(A)(B)", "A"),
    (r"x \approx 3", "3.1"),
    ("12 (thirteen)", "12"),
    (r"\{x: 2<x<5\}", "(2,6)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_notations_of_the_same_answer(one: str, other: str) -> None:
    assert both_ways(one, other) == {RIGHT}


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_answers_in_these_notations(one: str, other: str) -> None:
    assert RIGHT not in both_ways(one, other)


def test_a_reading_is_bounded() -> None:
    assert same_answer("1 or " * 400, "1") is not RIGHT
