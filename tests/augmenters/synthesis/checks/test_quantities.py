"""Numbers and equations in text: what is read, and what is passed over."""

from __future__ import annotations

from fractions import Fraction

import pytest

from augmenters.synthesis.checks.quantities import constants, equations, number_words, numbers, sentences


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("She has 5 * 3 = 15 apples.", [True]),
        ("5 boxes of 3 pens: 5 boxes x 3 pens = 15 pens", [True]),
        (r"\[ \frac{15}{3} + 2 \times 4 = 13 \]", [True]),
        ("20% of 50 = 10, and 1/3 of 12 = 4", [True, True]),
        ("$1,200 - $200 = $1,000", [True]),
        ("48/2=<<48/2=24>>24", [True]),
        ("10 / 3 = 3.33", [True]),
        ("10 / 3 = 3.43", [False]),
        ("2 * 3 = 6 = 5 + 1", [True, True]),
        ("2 * 3 = 7", [False]),
        ("- 12 * 2 = 24\n1. 3 + 4 = 7\nStep 2: 7 - 1 = 6", [True, True, True]),
        ("Then 2 of them, 5*3 = 15.", [True]),
        ("60 * (2 + 1) = 180 miles", [True]),
        ("40 / 100 * 50 = 20", [True]),
        ("5^2 = 25", [True]),
        ("0.25 * 80 = 20 kg", [True]),
        ("x + 3 = 10, so x = 7", []),
        ("1 hour = 60 minutes", []),
        ("f(2) = 3, n = 4", []),
        ("", []),
    ],
)
def test_equations_between_numbers_are_read(text: str, held: list[bool]) -> None:
    assert [each.holds for each in equations(text)] == held


def test_operands_and_results() -> None:
    (equation,) = equations("So 20% of $1,250 = 250 dollars")
    assert [each.value for each in equation.operands] == [20, 1250]
    assert equation.operands[0].readings == (20, Fraction(1, 5))
    assert (equation.result.value, equation.left) == (250, ("20%", "*", "1,250"))


def test_numbers_are_those_of_quantities() -> None:
    assert numbers("1. At 10:30 the 3rd of 1,200 people paid $2.50.\n2. Then 5 left.") == [1200, Fraction(5, 2), 5]
    assert number_words("Twice a dozen, and a third of it") == {2, 12, 3}
    assert {60, 7, 2} <= constants("minutes in a week")
    assert 60 not in constants("apples")
    assert sentences("One. Two 2.5\nthree") == ["One", " Two 2.5", "three"]


@pytest.mark.parametrize(
    "text",
    [
        "=" * 50,
        "((((1+",
        "1/0 + 2 = 3",
        "9^9^9^9 = 1 + 1",
        "%%% = 3 + %",
        "1" * 4000 + " + 1 = 2",
        "(" * 9000 + "1 = 1",
    ],
)
def test_no_text_is_too_odd(text: str) -> None:
    assert not any(each.holds for each in equations(text))
