"""SymPy objects with parts: sets, intervals, matrices and relations are the same by their parts, or undecided."""

from __future__ import annotations

import pytest

pytest.importorskip("math_verify")

import sympy
from sympy import Eq, FiniteSet, Interval, Matrix, S, Union, oo, symbols

from curate.verify.equality import same
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG

x, y = symbols("x y", real=True)
HALF = sympy.Rational(1, 2)


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        (FiniteSet(HALF, sympy.sqrt(2)), FiniteSet(2 / sympy.sqrt(2), HALF), RIGHT),
        (FiniteSet(1, 2), FiniteSet(1, 3), WRONG),
        (Interval(0, 1), Interval(0, 1, right_open=True), WRONG),
        (Interval(-oo, oo), S.Reals, RIGHT),
        (Union(Interval(0, 1), Interval(2, 3)), Union(Interval(2, 3), Interval(0, sympy.cos(0))), RIGHT),
        (Matrix([[1, HALF]]), Matrix([[1, sympy.Rational(2, 4)]]), RIGHT),
        (Matrix([[1, 2]]), Matrix([[1, 3]]), WRONG),
        (Matrix([[1, 2]]), Matrix([[1], [2]]), UNDECIDED),
        (Matrix([[1, 2]]), Matrix([[1, 2, 3]]), WRONG),
        (Eq(x, 3), sympy.Integer(3), RIGHT),
        (Eq(x, 3), sympy.Integer(4), UNDECIDED),
        (Eq(x, 3), Eq(x, 4), WRONG),
        (Eq(x + y, 2), Eq(3 * x + 3 * y, 6), RIGHT),
        (Eq(x + y, 2), Eq(x - y, 2), WRONG),
        (Eq(x**2, y), Eq(x**2, y + 1), UNDECIDED),
        (x + y > 2, -2 * x - 2 * y < -4, RIGHT),
        (x + y > 2, x + y >= 2, UNDECIDED),
        (x > 2, Interval(2, oo, left_open=True), RIGHT),
        (sympy.Integer(2), FiniteSet(2), UNDECIDED),
    ],
    ids=str,
)
def test_parts_decide(mine: object, theirs: object, verdict: object) -> None:
    assert same(mine, theirs) is verdict
    assert same(theirs, mine) is verdict
