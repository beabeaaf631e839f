"""Numbers are read exactly in the notations that people use, and compared as fractions."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from curate.verify import same_answer
from curate.verify.numbers import plain_number
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG

# -- plain numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("18", "18", ""),
        ("18.00", "18", ""),
        ("-18", "-18", ""),
        ("\u221218", "-18", ""),
        ("+18", "18", ""),
        (".5", "1/2", ""),
        ("3/4", "3/4", ""),
        ("-3/4", "-3/4", ""),
        ("1 3/4", "7/4", ""),
        ("-1 3/4", "-7/4", ""),
        (r"\frac{3}{4}", "3/4", ""),
        (r"-\dfrac{3}{4}", "-3/4", ""),
        (r"\frac{-3}{4}", "-3/4", ""),
        (r"\frac34", "3/4", ""),
        (r"1\frac{3}{4}", "7/4", ""),
        ("1,234,567.5", "1234567.5", ""),
        (r"10,\!000", "10000", ""),
        ("10{,}000", "10000", ""),
        ("1.5e3", "1500", ""),
        ("2E-2", "1/50", ""),
        (r"1.5 \times 10^{3}", "1500", ""),
        ("2 x 10^5", "200000", ""),
        ("**42**", "42", ""),
        ("$42$", "42", ""),
        ("42.", "42", ""),
        ("3 million", "3000000", ""),
        ("$18", "18", "dollar"),
        ("-$18", "-18", "dollar"),
        (r"\$18.90", "18.9", "dollar"),
        ("18 dollars", "18", "dollar"),
        ("$1.5 million", "1500000", "dollar"),
        ("5 km", "5", "kilometer"),
        ("5km", "5", "kilometer"),
        ("18 square feet", "18", "foot 2"),
        (r"10\text{ cm}^2", "10", "centimeter 2"),
        (r"90^\circ", "90", "degree"),
        ("50%", "50", "%"),
        (r"50\%", "50", "%"),
        ("1011_2", "1011", "base 2"),
    ],
)
def test_plain_numbers(text: str, value: str, unit: str) -> None:
    found = plain_number(text)
    assert found is not None
    assert (found.value, found.unit) == (Fraction(value), unit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "3x",
        "3 x",
        "5m",
        "1,23",
        "12,34,567",
        "9/0",
        "1e99999",
        "18 and a half",
        "2 pi",
        "7 dozen",
        "--5",
        "(5)",
        "5 more than 3",
        "1 5/3",
        "1 000",
        "3 hours and 5 minutes",
        "5 plus x",
        "9" * 2000,
        "2^{10}",
        "5:30",
    ],
)
def test_what_is_no_plain_number(text: str) -> None:
    assert plain_number(text) is None


def test_numbers_that_are_equal_as_fractions_are_right_and_others_wrong() -> None:
    rng = random.Random(0)
    for _ in range(300):
        value = Fraction(rng.randint(-(10**6), 10**6), rng.choice([1, 2, 4, 5, 8, 10, 100]))
        other = value + Fraction(rng.choice([-1, 1]), 100 * rng.choice([1, 2, 5]))
        spelled = [f"{v.numerator}/{v.denominator}" for v in (value, other)]
        decimal = [f"{float(v):,.5f}" for v in (value, other)]
        assert same_answer(spelled[0], decimal[0]) is same_answer(decimal[0], f"{spelled[0]} dollars") is RIGHT
        assert same_answer(spelled[1], decimal[0]) is same_answer(decimal[1], spelled[0]) is WRONG


def test_digits_beyond_a_float_count() -> None:
    assert same_answer("10000000000000000000001", "10000000000000000000002") is WRONG
    assert same_answer("0.1e-300", "1e-301") is RIGHT
    assert same_answer("0.30000000000000001", "0.3") is WRONG


@pytest.mark.parametrize(
    "text",
    [
        "6 boys 3 girls", "5 feet 3 inches", "2 hours 3 minutes", "7 rem 2", "2 weeks 3", "3 ft 2", "2 out of 3",
        "1 in 3", "5 degrees below zero", "3 a", "2 h", "5k", "10 m 3",
    ],
)  # fmt: skip
def test_what_follows_a_number_may_be_no_unit(text: str) -> None:
    assert plain_number(text) is None
    first = text[0] if text[1] != "0" else "10"
    for bare in (first, "17", "2/3", "1/3", "3/4", "2/5", "3/8", "-5", "5000"):
        assert same_answer(text, bare) is same_answer(bare, text) is UNDECIDED


@pytest.mark.parametrize("text", ["10 cm2", "10 cm^2", "10 feet^{2}", "10 square feet", "10 m", "10 L", "10 in"])
def test_units_may_have_an_exponent(text: str) -> None:
    assert same_answer(text, "10") is RIGHT
