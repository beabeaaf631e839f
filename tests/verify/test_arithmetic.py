"""Numbers with error bounds: exact where they can be, without a value where they would be too large."""

from __future__ import annotations

from typing import Any

import pytest


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
