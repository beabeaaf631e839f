"""Values of expressions keep to their error bounds."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest


def expression(rng: random.Random, depth: int) -> Any:
    """A SymPy expression of all functions that have values."""
    import sympy

    if depth == 0:
        rational = sympy.Rational(rng.randint(-30, 30), rng.randint(1, 12))
        return rng.choice([rational, rational, sympy.pi, sympy.E, sympy.Integer(10) ** rng.randint(-40, 40)])
    one, other = expression(rng, depth - 1), expression(rng, depth - 1)
    power = sympy.Rational(rng.randint(-7, 7), rng.choice([1, 1, 2, 3]))
    names = (
        "exp log sin cos tan cot sec csc sinh cosh tanh asin acos atan asinh acosh atanh acot Abs sign floor factorial"
    )
    function = getattr(sympy, rng.choice(names.split()))
    # As they are: SymPy itself would work out the factorial of ten million.
    applied = function(one, evaluate=False)
    made = [sympy.Add(one, other, evaluate=False), sympy.Mul(one, other, evaluate=False), applied]
    return rng.choice([*made, sympy.Pow(one, power, evaluate=False), one + other * sympy.I, one - other])


def test_values_are_within_their_errors() -> None:
    """A value at few bits, against the same at many."""
    pytest.importorskip("math_verify")
    from curate.verify.arithmetic import Ball, NoValue
    from curate.verify.values import Evaluator

    rng = random.Random(0)
    inexact = 0
    for _ in range(500):
        try:
            made = expression(rng, rng.randint(1, 3))
            rough, fine = Evaluator(rng.choice([60, 90, 150])), Evaluator(900)
            low, high = rough.value(made), fine.value(made)
        except (NoValue, TypeError, ValueError):
            continue
        if isinstance(low, Fraction) or isinstance(high, Fraction):
            assert isinstance(high, Ball) or low == high or isinstance(low, Ball)
        low, high = fine.ball(low), fine.ball(high)
        inexact += 1
        assert abs(low.middle - high.middle) <= low.error + high.error, made
    assert inexact > 200
