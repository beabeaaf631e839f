"""Evaluate SymPy expressions by a rule for each function; expressions with other functions have no value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath
import sympy
from sympy import S

from curate.verify.arithmetic import Arithmetic, Ball, NoValue, Number

# Factorials of larger arguments use the gamma function.
_EXACT_FACTORIAL = 10_000
_MOST_FACTORS = 1_000
# Maximum distance of complex angles from the real axis.
_MOST_IMAGINARY = 10**9


class Evaluator(Arithmetic):
    """Values at a precision of `bits`, with variables at `point`.

    Only `curate.verify.math_verify_worker` uses this, since evaluation may take any amount of time.
    """

    def __init__(self, bits: int, point: Mapping[Any, Fraction] | None = None) -> None:
        super().__init__(bits)
        self._point = point or {}
        self._known: dict[Any, Number] = {}

    def value(self, expression: Any) -> Number:
        """The value of an expression; NoValue if it has none."""
        number = self._known.get(expression)
        if number is None:
            try:
                number = self._value(expression)
            except (ZeroDivisionError, ValueError, OverflowError, TypeError, mpmath.libmp.ComplexResult) as error:
                raise NoValue(str(error)) from error
            self.measure(number)
            self._known[expression] = number
        return number

    def _value(self, expression: Any) -> Number:
        if expression.is_Rational:
            return Fraction(int(expression.p), int(expression.q))
        if expression.is_Symbol:
            if expression not in self._point:
                raise NoValue("a variable")
            return self._point[expression]
        if expression in _CONSTANTS:
            return self.rounded(_CONSTANTS[expression](self.mp), self.mp.zero)
        rule = _RULES.get(expression.func)
        if rule is None:
            raise NoValue(f"{expression.func} is not known")
        return rule(self, *map(self.value, expression.args))

    def _wave(self, name: str, argument: Number) -> Ball:
        """sin or cos."""
        ball = self.ball(argument)
        if ball.error > 1 or abs(ball.middle.imag) > _MOST_IMAGINARY:
            raise NoValue("too large")
        steepest = self.mp.cosh(abs(ball.middle.imag) + ball.error)
        return self.rounded(getattr(self.mp, name)(ball.middle), steepest * ball.error)

    def sine(self, argument: Number) -> Number:
        return Fraction(0) if argument == 0 else self._wave("sin", argument)

    def cosine(self, argument: Number) -> Number:
        return Fraction(1) if argument == 0 else self._wave("cos", argument)

    def _hyperbolic(self, argument: Number, sign: int) -> Number:
        """cosh (sign 1) or sinh (sign -1)."""
        rising, falling = self.exponential(argument), self.exponential(self.multiply(Fraction(-1), argument))
        return self.multiply(Fraction(1, 2), self.add(rising, self.multiply(Fraction(sign), falling)))

    def inverse(self, name: str, argument: Number) -> Number:
        """asin, acos, asinh, acosh or atanh for arguments with real values; atan for any argument."""
        plus = name in ("atan", "asinh")
        if isinstance(argument, Fraction) and (argument in (0, 1, -1)):
            if (name, abs(argument)) == ("atanh", 1):
                raise NoValue("a pole")
            return self.rounded(getattr(self.mp, name)(self.mp.mpf(int(argument))), self.mp.zero)
        ball = self.ball(argument)
        if not isinstance(ball.middle, self.mp.mpf):
            raise NoValue("a complex argument")
        low = abs(ball.middle) - ball.error
        outside = low >= 1 if name == "acosh" else abs(ball.middle) + ball.error < 1
        if not plus and not (outside and (name != "acosh" or ball.middle > 0)):
            raise NoValue("a branch cut")
        # The derivative is the inverse of the distance (or its root) of the square from 1 or -1.
        square = (
            max(low, 0) ** 2 + 1
            if plus
            else abs(1 - (abs(ball.middle) + (ball.error if low < 1 else -ball.error)) ** 2)
        )
        if not square:
            raise NoValue("a branch point")
        steepest = 1 / (square if name in ("atan", "atanh") else self.mp.sqrt(square))
        return self.rounded(getattr(self.mp, name)(ball.middle), 2 * steepest * ball.error)

    def factorial(self, argument: Number) -> Number:
        if not isinstance(argument, Fraction):
            raise NoValue("a factorial of no fraction")
        if argument.denominator == 1 and 0 <= argument <= _EXACT_FACTORIAL:
            return Fraction(math.factorial(int(argument)))
        if argument < 0 or argument > 10**12:
            raise NoValue("a factorial of a negative or too large number")
        # d log gamma(x+1) / dx is less than log(x+2).
        ball = self.ball(argument)
        middle = self.mp.factorial(ball.middle)
        return self.rounded(middle, abs(middle) * self.mp.log(ball.middle + 2) * ball.error * 2)

    def double_factorial(self, argument: Number) -> Number:
        if not isinstance(argument, Fraction) or argument.denominator > 1 or not 0 <= argument <= _EXACT_FACTORIAL:
            raise NoValue("a double factorial of no natural number")
        return Fraction(math.prod(range(int(argument), 0, -2)))

    def binomial(self, many: Number, few: Number) -> Number:
        if not (isinstance(many, Fraction) and isinstance(few, Fraction)) or few.denominator != 1 or few < 0:
            raise NoValue("a binomial of no natural number below")
        if many.denominator > 1 or many < few:
            if few > _MOST_FACTORS:
                raise NoValue("a binomial of too many factors")
            return math.prod(((many - k) / (k + 1) for k in range(int(few))), start=Fraction(1))
        if many <= _EXACT_FACTORIAL:
            return Fraction(math.comb(int(many), int(few)))
        return self.quotient(self.factorial(many), self.multiply(self.factorial(few), self.factorial(many - few)))

    def absolute(self, argument: Number) -> Number:
        if isinstance(argument, Fraction):
            return abs(argument)
        return self.rounded(abs(argument.middle), argument.error)

    def sign(self, argument: Number) -> Number:
        if isinstance(argument, Fraction):
            return Fraction((argument > 0) - (argument < 0))
        if not isinstance(argument.middle, self.mp.mpf) or abs(argument.middle) <= argument.error:
            raise NoValue("a sign")
        return Fraction(1 if argument.middle > 0 else -1)

    def floor(self, argument: Number) -> Number:
        if isinstance(argument, Fraction):
            return Fraction(math.floor(argument))
        if not isinstance(argument.middle, self.mp.mpf):
            raise NoValue("a complex argument")
        low, high = (int(self.mp.floor(argument.middle + side * argument.error)) for side in (-1, 1))
        if low != high or self.mp.mag(argument.middle) > self.bits - 8:
            raise NoValue("a step")
        return Fraction(low)

    def ceiling(self, argument: Number) -> Number:
        return self.multiply(Fraction(-1), self.floor(self.multiply(Fraction(-1), argument)))

    def modulo(self, argument: Number, divisor: Number) -> Number:
        whole = self.floor(self.quotient(argument, divisor))
        return self.difference(argument, self.multiply(divisor, whole))

    def largest(self, *arguments: Number) -> Number:
        if all(isinstance(argument, Fraction) for argument in arguments):
            return max(arguments)
        balls = [self.ball(argument) for argument in arguments]
        if not all(isinstance(ball.middle, self.mp.mpf) for ball in balls):
            raise NoValue("a complex argument")
        return self.rounded(max(ball.middle for ball in balls), max(ball.error for ball in balls))

    def smallest(self, *arguments: Number) -> Number:
        """The minimum, as the negated maximum of the negated arguments."""
        negative = [self.multiply(Fraction(-1), argument) for argument in arguments]
        return self.multiply(Fraction(-1), self.largest(*negative))


def _same(_: Evaluator, argument: Number) -> Number:
    return argument


def _inverse(name: str) -> Callable[[Evaluator, Number], Number]:
    return lambda at, argument: at.inverse(name, argument)


def _of_reciprocal(name: str) -> Callable[[Evaluator, Number], Number]:
    return lambda at, argument: at.inverse(name, at.power(argument, Fraction(-1)))


def _ratio(top: Callable[..., Number], bottom: Callable[..., Number]) -> Callable[[Evaluator, Number], Number]:
    return lambda at, argument: at.quotient(top(at, argument), bottom(at, argument))


def _one(_: Evaluator, argument: Number) -> Number:
    return Fraction(1)


def _sinh(at: Evaluator, argument: Number) -> Number:
    return at._hyperbolic(argument, -1)


def _cosh(at: Evaluator, argument: Number) -> Number:
    return at._hyperbolic(argument, 1)


_SIN, _COS = Evaluator.sine, Evaluator.cosine
_CONSTANTS: dict[Any, Callable[[Any], Any]] = {
    S.Pi: lambda mp: +mp.pi,
    S.Exp1: lambda mp: +mp.e,
    S.EulerGamma: lambda mp: +mp.euler,
    S.Catalan: lambda mp: +mp.catalan,
    S.GoldenRatio: lambda mp: +mp.phi,
    S.ImaginaryUnit: lambda mp: mp.mpc(0, 1),
}
_RULES: dict[Any, Callable[..., Number]] = {
    sympy.Add: Evaluator.add,
    sympy.Mul: Evaluator.multiply,
    sympy.Pow: Evaluator.power,
    sympy.exp: Evaluator.exponential,
    sympy.log: Evaluator.logarithm,
    sympy.sin: _SIN,
    sympy.cos: _COS,
    sympy.tan: _ratio(_SIN, _COS),
    sympy.cot: _ratio(_COS, _SIN),
    sympy.sec: _ratio(_one, _COS),
    sympy.csc: _ratio(_one, _SIN),
    sympy.sinh: _sinh,
    sympy.cosh: _cosh,
    sympy.tanh: _ratio(_sinh, _cosh),
    sympy.coth: _ratio(_cosh, _sinh),
    sympy.sech: _ratio(_one, _cosh),
    sympy.csch: _ratio(_one, _sinh),
    **{getattr(sympy, name): _inverse(name) for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    sympy.acot: _of_reciprocal("atan"),
    sympy.asec: _of_reciprocal("acos"),
    sympy.acsc: _of_reciprocal("asin"),
    sympy.factorial: Evaluator.factorial,
    sympy.factorial2: Evaluator.double_factorial,
    sympy.binomial: Evaluator.binomial,
    sympy.gamma: lambda at, argument: at.factorial(at.difference(argument, Fraction(1))),
    sympy.Abs: Evaluator.absolute,
    sympy.sign: Evaluator.sign,
    sympy.floor: Evaluator.floor,
    sympy.ceiling: Evaluator.ceiling,
    sympy.Mod: Evaluator.modulo,
    sympy.Max: Evaluator.largest,
    sympy.Min: Evaluator.smallest,
    sympy.UnevaluatedExpr: _same,
}  # fmt: skip
