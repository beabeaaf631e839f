"""Generated pairs of answers of which the truth is known, and values that keep to their error bounds."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from curate.verify import Verdict, grade_many, same_answer
from tests.verify.answer_pairs import KINDS, pairs


def check(seed: int, count: int) -> Counter[tuple[bool, Verdict]]:
    """Grade so many pairs; none may be wrongly right, nor wrongly wrong."""
    made = pairs(seed, count)
    found = grade_many([(rf"\boxed{{{one}}}", other) for _, (one, other, _) in made])
    forbidden = {True: Verdict.wrong, False: Verdict.right}
    bad = [pair for pair, verdict in zip(made, found, strict=True) if verdict is forbidden[pair[1][2]]]
    assert bad == []
    return Counter((pair[1][2], verdict) for pair, verdict in zip(made, found, strict=True))


def test_generated_pairs_are_graded_by_the_truth() -> None:
    """Near misses differ by a part in 10^12 to 10^60, by order, by a bracket, by a sign, or by one."""
    found = check(0, 14 * len(KINDS))
    assert found[True, Verdict.undecided] <= 0.02 * found.total()
    assert found[False, Verdict.undecided] <= 0.08 * found.total()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_generated_pairs(seed: int) -> None:
    found = check(seed, 1000)
    assert found[True, Verdict.undecided] <= 10
    assert found[False, Verdict.undecided] <= 50


def test_both_answers_may_be_the_reference() -> None:
    for _, (one, other, _) in pairs(3, 2 * len(KINDS)):
        assert same_answer(one, other) is same_answer(other, one)


# -- values ---------------------------------------------------------------------------------------------------------
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


def test_values_of_what_is_far_too_large_are_not_worked_out() -> None:
    pytest.importorskip("math_verify")
    import sympy

    from curate.verify.arithmetic import NoValue
    from curate.verify.values import Evaluator

    nine, large = sympy.Integer(9), sympy.Integer(10) ** 9

    def power(base: Any, exponent: Any) -> Any:
        return sympy.Pow(base, exponent, evaluate=False)

    for made in (
        power(nine, power(nine, power(nine, nine))),
        sympy.factorial(sympy.Integer(10) ** 15, evaluate=False),
        sympy.factorial(sympy.factorial(large, evaluate=False), evaluate=False),
        sympy.exp(sympy.exp(power(sympy.Integer(10), large), evaluate=False), evaluate=False),
    ):
        with pytest.raises(NoValue):
            Evaluator(320).value(made)
