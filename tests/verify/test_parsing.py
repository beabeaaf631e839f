"""LaTeX as SymPy objects: exact, and nothing that can be read in two ways."""

from __future__ import annotations

import pytest

pytest.importorskip("math_verify")

import sympy

from curate.verify.parsing import both_cases, parsed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1+0.2", sympy.Rational(3, 10)),
        ("2(3)", sympy.Integer(6)),
        (r"1 \frac{1}{2}", sympy.Rational(3, 2)),
        ("sqrt(16)", sympy.Integer(4)),
        ("2**10", sympy.Integer(1024)),
        ("1,800+1", sympy.Integer(1801)),
        ("180 degrees", sympy.pi),
        ("i^2", sympy.Integer(-1)),
    ],
)
def test_values_are_exact(text: str, value: sympy.Expr) -> None:
    found = parsed(text)
    assert sympy.simplify(found.doit() - value) == 0
    assert not found.atoms(sympy.Float)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "3 1",
            "2 x 3",
            "x'",
            "3:4",
            "2^3^2",
            r"2/3\pi",
            r"f^{-1}(x)",
            r"\overline{z}",
            "5!!",
            "1 e 5",
            "x$",
            "(101)_2",
        ],
        *["the sum of x and y", r"1 \frac{5}{2}", "x?", "sqrt(2", "(101)_2"],
    ],
)
def test_what_can_be_read_in_two_ways_or_is_prose_is_not_read(text: str) -> None:
    assert parsed(text) is None


def test_letters_in_both_cases_are_noticed_and_names_of_functions_are_none() -> None:
    assert both_cases("x + X")
    assert both_cases(r"\Pi \pi")
    assert not both_cases(r"x \sin y")
    assert not both_cases(r"\sin s")
