"""Values of SymPy expressions: exact fractions where possible, else numbers with a bound on their error.

Only `curate.verify.worker` imports this: values may take any amount of time. Each function of an expression has a rule
of its own below, by which the bounds are kept; an expression with another function has no value here. mpmath's
functions are taken to be accurate to the last 4 bits of the precision in use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath
import sympy
from sympy import S

__all__ = ["Ball", "Evaluator", "NoValue", "Number"]

# Fractions are exact up to so many bits in numerator or denominator.
_EXACT_BITS = 200_000
# Larger arguments of factorials are left to the gamma function.
_EXACT_FACTORIAL = 10_000
# Numbers beyond 2 to this power, or below its inverse, have no value.
_MOST_MAGNITUDE = 10**9


class NoValue(Exception):
    """An expression has no value here: a pole, a branch cut, an unknown function, or more than fits."""


class Ball(NamedTuple):
    """A real (mpf) or complex (mpc) number that is no further than `error` from `middle`."""

    middle: Any
    error: Any


Number = Fraction | Ball


class Evaluator:
    """Values at a precision of `bits`, with variables at `point`.

    height: the sum of the sizes, in bits, of all numbers met; values that differ at all are expected to differ by more
        than 2^-height or so.
    real_roots: whether an odd root of a negative number was met, taken as the real one: (-8)^(1/3) = -2.
    """

    def __init__(self, bits: int, point: Mapping[Any, Fraction] | None = None) -> None:
        self.bits = bits
        self.height = 0
        self.real_roots = False
        self._point = point or {}
        self._mp: Any = mpmath.MPContext()
        self._mp.prec = bits
        self._unit = self._mp.ldexp(1, 4 - bits)
        self._known: dict[Any, Number] = {}

    @property
    def tiny(self) -> Any:
        """Far below the size of any number met."""
        return self._mp.ldexp(1, -self.height - 200)

    def value(self, expression: Any) -> Number:
        """The value of an expression; NoValue if it has none."""
        found = self._known.get(expression)
        if found is None:
            try:
                found = self._value(expression)
            except (ZeroDivisionError, ValueError, OverflowError, TypeError, mpmath.libmp.ComplexResult) as error:
                raise NoValue(str(error)) from error
            self._measure(found)
            self._known[expression] = found
        return found

    def difference(self, one: Number, other: Number) -> Number:
        """One value less the other."""
        if isinstance(one, Fraction) and isinstance(other, Fraction):
            return one - other
        mine, theirs = self.ball(one), self.ball(other)
        return self._ball(mine.middle - theirs.middle, mine.error + theirs.error)

    def ball(self, value: Number) -> Ball:
        """The value as a ball."""
        if isinstance(value, Ball):
            return value
        return self._ball(self._mp.mpf(value.numerator) / value.denominator, self._mp.zero)

    def _ball(self, middle: Any, error: Any) -> Ball:
        if not self._mp.isfinite(middle) or not self._mp.isfinite(error):
            raise NoValue("not finite")
        return Ball(middle, error + abs(middle) * self._unit)

    def _measure(self, value: Number) -> None:
        if isinstance(value, Fraction):
            self.height += value.numerator.bit_length() + value.denominator.bit_length()
        elif value.middle:
            size = abs(int(self._mp.mag(value.middle)))
            if size > _MOST_MAGNITUDE:
                raise NoValue("too large or too small")
            self.height += size

    def _value(self, expression: Any) -> Number:
        if expression.is_Rational:
            return Fraction(int(expression.p), int(expression.q))
        if expression.is_Symbol:
            if expression not in self._point:
                raise NoValue("a variable")
            return self._point[expression]
        if expression in _CONSTANTS:
            return self._ball(_CONSTANTS[expression](self._mp), self._mp.zero)
        rule = _RULES.get(expression.func)
        if rule is None:
            raise NoValue(f"{expression.func} is not known")
        return rule(self, *map(self.value, expression.args))

    # -- arithmetic -----------------------------------------------------------------------------------------------

    def add(self, *terms: Number) -> Number:
        if all(isinstance(term, Fraction) for term in terms):
            return _bounded(sum(terms, Fraction(0)))
        balls = [self.ball(term) for term in terms]
        size = sum(abs(ball.middle) for ball in balls)
        error = sum(ball.error for ball in balls) + size * len(balls) * self._unit
        return self._ball(sum(ball.middle for ball in balls), error)

    def multiply(self, *factors: Number) -> Number:
        exact = math.prod((factor for factor in factors if isinstance(factor, Fraction)), start=Fraction(1))
        inexact = [factor for factor in factors if isinstance(factor, Ball)]
        if not inexact or exact == 0:
            return _bounded(exact)
        product = self.ball(exact)
        for ball in inexact:
            middle = product.middle * ball.middle
            error = abs(product.middle) * ball.error + (abs(ball.middle) + ball.error) * product.error
            product = self._ball(middle, error)
        return product

    def power(self, base: Number, exponent: Number) -> Number:
        if isinstance(exponent, Fraction):
            if exponent.denominator == 1:
                return self._integer_power(base, exponent.numerator)
            if isinstance(base, Fraction):
                return self._root(base, exponent)
            if isinstance(base.middle, self._mp.mpf) and base.middle < 0 and exponent.denominator % 2:
                self.real_roots = True
                size = self.power(Ball(-base.middle, base.error), exponent)
                return size if exponent.numerator % 2 == 0 else self.multiply(Fraction(-1), size)
        elif base == 0:
            raise NoValue("a power of zero")
        return self.exponential(self.multiply(exponent, self.logarithm(base)))

    def _integer_power(self, base: Number, exponent: int) -> Number:
        if isinstance(base, Fraction):
            size = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) == 1 or size * abs(exponent) <= _EXACT_BITS:
                return base ** (exponent if abs(base) != 1 else exponent % 2)
        if exponent == 0:
            return Fraction(1)
        ball = self.ball(base)
        low, high = abs(ball.middle) - ball.error, abs(ball.middle) + ball.error
        if exponent < 0 and low <= 0:
            raise NoValue("a pole")
        if abs(exponent) * max(1, abs(int(self._mp.mag(ball.middle))) if ball.middle else 1) > _MOST_MAGNITUDE:
            raise NoValue("too large or too small")
        steepest = abs(exponent) * (high if exponent > 0 else low) ** (exponent - 1)
        middle = ball.middle**exponent
        # Repeated squaring by mpmath rounds once for each bit of the exponent.
        return self._ball(middle, steepest * ball.error + abs(middle) * self._unit * exponent.bit_length())

    def _root(self, base: Fraction, exponent: Fraction) -> Number:
        """A power of a fraction with an exponent that is no integer."""
        if base == 0:
            if exponent < 0:
                raise NoValue("a pole")
            return base
        if base < 0:
            if exponent.denominator % 2:
                self.real_roots = True
                size = self.power(-base, exponent)
                return size if exponent.numerator % 2 == 0 else self.multiply(Fraction(-1), size)
            turn = self.exponential(self.multiply(exponent, self.logarithm(Fraction(-1))))
            return self.multiply(self.power(-base, exponent), turn)
        if exponent.denominator < 100:
            roots = [sympy.integer_nthroot(part, exponent.denominator) for part in base.as_integer_ratio()]
            if all(exact for _, exact in roots):
                return self._integer_power(Fraction(int(roots[0][0]), int(roots[1][0])), exponent.numerator)
        return self.exponential(self.multiply(exponent, self.logarithm(base)))

    # -- functions ------------------------------------------------------------------------------------------------

    def exponential(self, power: Number) -> Number:
        if power == 0:
            return Fraction(1)
        ball = self.ball(power)
        if ball.error > 1 or abs(ball.middle) > _MOST_MAGNITUDE:
            raise NoValue("too large or too small")
        middle = self._mp.exp(ball.middle)
        found = self._ball(middle, 2 * abs(middle) * ball.error)
        self._measure(found)
        return found

    def logarithm(self, argument: Number, base: Number | None = None) -> Number:
        if base is not None:
            return self.multiply(self.logarithm(argument), self._integer_power(self.logarithm(base), -1))
        if argument == 1:
            return Fraction(0)
        ball = self.ball(argument)
        low = abs(ball.middle) - ball.error
        if low <= 0:
            raise NoValue("a pole")
        real = isinstance(ball.middle, self._mp.mpf)
        if not real and ball.middle.real < ball.error and abs(ball.middle.imag) <= ball.error:
            raise NoValue("a branch cut")
        return self._ball(self._mp.log(ball.middle), ball.error / low)

    def _wave(self, name: str, argument: Number) -> Ball:
        """sin or cos."""
        ball = self.ball(argument)
        if ball.error > 1 or abs(ball.middle.imag) > _MOST_MAGNITUDE:
            raise NoValue("too large")
        steepest = self._mp.cosh(abs(ball.middle.imag) + ball.error)
        return self._ball(getattr(self._mp, name)(ball.middle), steepest * ball.error)

    def sine(self, argument: Number) -> Number:
        return Fraction(0) if argument == 0 else self._wave("sin", argument)

    def cosine(self, argument: Number) -> Number:
        return Fraction(1) if argument == 0 else self._wave("cos", argument)

    def _hyperbolic(self, argument: Number, sign: int) -> Number:
        """cosh (sign 1) or sinh (sign -1)."""
        rising, falling = self.exponential(argument), self.exponential(self.multiply(Fraction(-1), argument))
        return self.multiply(Fraction(1, 2), self.add(rising, self.multiply(Fraction(sign), falling)))

    def quotient(self, top: Number, bottom: Number) -> Number:
        return self.multiply(top, self._integer_power(bottom, -1))

    def inverse(self, name: str, argument: Number) -> Number:
        """asin, acos, asinh, acosh or atanh, where real arguments have real values; atan anywhere."""
        plus = name in ("atan", "asinh")
        if isinstance(argument, Fraction) and (argument in (0, 1, -1)):
            if (name, abs(argument)) == ("atanh", 1):
                raise NoValue("a pole")
            return self._ball(getattr(self._mp, name)(self._mp.mpf(int(argument))), self._mp.zero)
        ball = self.ball(argument)
        if not isinstance(ball.middle, self._mp.mpf):
            raise NoValue("a complex argument")
        low = abs(ball.middle) - ball.error
        outside = low >= 1 if name == "acosh" else abs(ball.middle) + ball.error < 1
        if not plus and not (outside and (name != "acosh" or ball.middle > 0)):
            raise NoValue("a branch cut")
        # The derivative is the inverse of the distance (or of its root) of the square from 1 or -1.
        square = (
            max(low, 0) ** 2 + 1
            if plus
            else abs(1 - (abs(ball.middle) + (ball.error if low < 1 else -ball.error)) ** 2)
        )
        if not square:
            raise NoValue("a branch point")
        steepest = 1 / (square if name in ("atan", "atanh") else self._mp.sqrt(square))
        return self._ball(getattr(self._mp, name)(ball.middle), 2 * steepest * ball.error)

    def factorial(self, argument: Number) -> Number:
        if not isinstance(argument, Fraction):
            raise NoValue("a factorial of no fraction")
        if argument.denominator == 1 and 0 <= argument <= _EXACT_FACTORIAL:
            return Fraction(math.factorial(int(argument)))
        if argument < 0 or argument > 10**12:
            raise NoValue("a factorial of a negative or too large number")
        # d log gamma(x+1) / dx is less than log(x+2).
        ball = self.ball(argument)
        middle = self._mp.factorial(ball.middle)
        return self._ball(middle, abs(middle) * self._mp.log(ball.middle + 2) * ball.error * 2)

    def double_factorial(self, argument: Number) -> Number:
        if not isinstance(argument, Fraction) or argument.denominator > 1 or not 0 <= argument <= _EXACT_FACTORIAL:
            raise NoValue("a double factorial of no natural number")
        return Fraction(math.prod(range(int(argument), 0, -2)))

    def binomial(self, many: Number, few: Number) -> Number:
        if not (isinstance(many, Fraction) and isinstance(few, Fraction)) or {many.denominator, few.denominator} != {1}:
            raise NoValue("a binomial of no integers")
        if not 0 <= few <= many:
            raise NoValue("a binomial outside of Pascal's triangle")
        if many <= _EXACT_FACTORIAL:
            return Fraction(math.comb(int(many), int(few)))
        return self.quotient(self.factorial(many), self.multiply(self.factorial(few), self.factorial(many - few)))

    def absolute(self, argument: Number) -> Number:
        if isinstance(argument, Fraction):
            return abs(argument)
        return self._ball(abs(argument.middle), argument.error)

    def sign(self, argument: Number) -> Number:
        if isinstance(argument, Fraction):
            return Fraction((argument > 0) - (argument < 0))
        if not isinstance(argument.middle, self._mp.mpf) or abs(argument.middle) <= argument.error:
            raise NoValue("a sign")
        return Fraction(1 if argument.middle > 0 else -1)

    def floor(self, argument: Number) -> Number:
        if isinstance(argument, Fraction):
            return Fraction(math.floor(argument))
        if not isinstance(argument.middle, self._mp.mpf):
            raise NoValue("a complex argument")
        low, high = (int(self._mp.floor(argument.middle + side * argument.error)) for side in (-1, 1))
        if low != high or self._mp.mag(argument.middle) > self.bits - 8:
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
        if not all(isinstance(ball.middle, self._mp.mpf) for ball in balls):
            raise NoValue("a complex argument")
        return self._ball(max(ball.middle for ball in balls), max(ball.error for ball in balls))

    def smallest(self, *arguments: Number) -> Number:
        negative = [self.multiply(Fraction(-1), argument) for argument in arguments]
        return self.multiply(Fraction(-1), self.largest(*negative))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 2 * _EXACT_BITS:
        raise NoValue("too long")
    return value


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
