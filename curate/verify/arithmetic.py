"""Numbers that are exact fractions where possible, and otherwise have an error bound."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath
import sympy

# Fractions are exact up to this many bits in numerator or denominator.
_EXACT_BITS = 200_000
# Numbers above 2 to this power, or below its inverse, have no value.
_MOST_MAGNITUDE = 10**9


class NoValue(Exception):
    """An expression has no value here: a pole, a branch cut, an unknown function, or a number that is too large."""


class Ball(NamedTuple):
    """A real (mpf) or complex (mpc) number with distance at most `error` from `middle`."""

    middle: Any
    error: Any


Number = Fraction | Ball


class Arithmetic:
    """Arithmetic at a precision of `bits`, with an error rule for each operation.

    mpmath's functions are assumed to be accurate to the last 4 bits of the precision in use.

    height: sum of the sizes, in bits, of all numbers seen; different values are expected to differ by more
        than about 2^-height.
    real_roots: whether an odd root of a negative number was taken as the real one: (-8)^(1/3) = -2.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.height = 0
        self.real_roots = False
        self.mp: Any = mpmath.MPContext()
        self.mp.prec = bits
        self._unit = self.mp.ldexp(1, 4 - bits)

    @property
    def tiny(self) -> Any:
        """A bound far below the size of any number seen."""
        return self.mp.ldexp(1, -self.height - 200)

    def difference(self, left: Number, right: Number) -> Number:
        """`left` minus `right`."""
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left - right
        left_ball, right_ball = self.ball(left), self.ball(right)
        return self.rounded(left_ball.middle - right_ball.middle, left_ball.error + right_ball.error)

    def ball(self, value: Number) -> Ball:
        """A value as a ball."""
        if isinstance(value, Ball):
            return value
        return self.rounded(self.mp.mpf(value.numerator) / value.denominator, self.mp.zero)

    def rounded(self, middle: Any, error: Any) -> Ball:
        """A ball around a result of mpmath, computed from numbers whose errors add up to `error`."""
        if not self.mp.isfinite(middle) or not self.mp.isfinite(error):
            raise NoValue("not finite")
        return Ball(middle, error + abs(middle) * self._unit)

    def measure(self, value: Number) -> None:
        """Add the size of a number to the height."""
        if isinstance(value, Fraction):
            self.height += value.numerator.bit_length() + value.denominator.bit_length()
        elif value.middle:
            size = abs(int(self.mp.mag(value.middle)))
            if size > _MOST_MAGNITUDE:
                raise NoValue("too large or too small")
            self.height += size

    def add(self, *terms: Number) -> Number:
        exact = [term for term in terms if isinstance(term, Fraction)]
        if len(exact) == len(terms):
            return _bounded(sum(exact, Fraction(0)))
        balls = [self.ball(term) for term in terms]
        size = sum(abs(ball.middle) for ball in balls)
        error = sum(ball.error for ball in balls) + size * len(balls) * self._unit
        return self.rounded(sum(ball.middle for ball in balls), error)

    def multiply(self, *factors: Number) -> Number:
        """Product of the factors: fractions exactly, balls with their error."""
        exact = math.prod((factor for factor in factors if isinstance(factor, Fraction)), start=Fraction(1))
        inexact = [factor for factor in factors if isinstance(factor, Ball)]
        if not inexact or exact == 0:
            return _bounded(exact)
        product = self.ball(exact)
        for ball in inexact:
            middle = product.middle * ball.middle
            error = abs(product.middle) * ball.error + (abs(ball.middle) + ball.error) * product.error
            product = self.rounded(middle, error)
        return product

    def power(self, base: Number, exponent: Number) -> Number:
        if isinstance(exponent, Fraction):
            if exponent.denominator == 1:
                return self.integer_power(base, exponent.numerator)
            if isinstance(base, Fraction):
                return self._root(base, exponent)
            if isinstance(base.middle, self.mp.mpf) and base.middle < 0 and exponent.denominator % 2:
                self.real_roots = True
                size = self.power(Ball(-base.middle, base.error), exponent)
                return size if exponent.numerator % 2 == 0 else self.multiply(Fraction(-1), size)
        elif base == 0:
            raise NoValue("a power of zero")
        return self.exponential(self.multiply(exponent, self.logarithm(base)))

    def integer_power(self, base: Number, exponent: int) -> Number:
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
        if abs(exponent) * max(1, abs(int(self.mp.mag(ball.middle))) if ball.middle else 1) > _MOST_MAGNITUDE:
            raise NoValue("too large or too small")
        steepest = abs(exponent) * (high if exponent > 0 else low) ** (exponent - 1)
        middle = ball.middle**exponent
        # mpmath's repeated squaring rounds once for each bit of the exponent.
        return self.rounded(middle, steepest * ball.error + abs(middle) * self._unit * exponent.bit_length())

    def _root(self, base: Fraction, exponent: Fraction) -> Number:
        """A fraction to a non-integer power."""
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
                return self.integer_power(Fraction(int(roots[0][0]), int(roots[1][0])), exponent.numerator)
        return self.exponential(self.multiply(exponent, self.logarithm(base)))

    def exponential(self, power: Number) -> Number:
        if power == 0:
            return Fraction(1)
        ball = self.ball(power)
        if ball.error > 1 or abs(ball.middle) > _MOST_MAGNITUDE:
            raise NoValue("too large or too small")
        middle = self.mp.exp(ball.middle)
        power_of_e = self.rounded(middle, 2 * abs(middle) * ball.error)
        self.measure(power_of_e)
        return power_of_e

    def logarithm(self, argument: Number, base: Number | None = None) -> Number:
        """Logarithm to `base` (None = natural); exact for an integer power of a base."""
        if base is not None:
            exact = _exact_logarithm(argument, base)
            if exact is not None:
                return Fraction(exact)
            return self.multiply(self.logarithm(argument), self.integer_power(self.logarithm(base), -1))
        if argument == 1:
            return Fraction(0)
        ball = self.ball(argument)
        low = abs(ball.middle) - ball.error
        if low <= 0:
            raise NoValue("a pole")
        real = isinstance(ball.middle, self.mp.mpf)
        if not real and ball.middle.real < ball.error and abs(ball.middle.imag) <= ball.error:
            raise NoValue("a branch cut")
        return self.rounded(self.mp.log(ball.middle), ball.error / low)

    def quotient(self, top: Number, bottom: Number) -> Number:
        return self.multiply(top, self.integer_power(bottom, -1))


def _exact_logarithm(argument: Number, base: Number) -> int | None:
    """The integer k with base ** k == argument, if there is one."""
    if not (isinstance(argument, Fraction) and isinstance(base, Fraction)) or argument <= 0 or base <= 0 or base == 1:
        return None
    sizes = [math.log2(part.numerator) - math.log2(part.denominator) for part in (argument, base)]
    power = round(sizes[0] / sizes[1]) if sizes[1] else 0
    bits = base.numerator.bit_length() + base.denominator.bit_length()
    return power if abs(power) * bits <= _EXACT_BITS and base**power == argument else None


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 2 * _EXACT_BITS:
        raise NoValue("too long")
    return value
