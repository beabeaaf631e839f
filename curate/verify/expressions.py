"""Compare expressions by values that are exact or have error bounds, not by a tolerance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, S, Set

from curate.verify.arithmetic import NoValue
from curate.verify.values import Evaluator
from curate.verify.verdict import Verdict

RIGHT, WRONG, UNDECIDED = Verdict.right, Verdict.wrong, Verdict.undecided
# Bits of the first evaluation, bits added to what heights require, and the maximum.
_FIRST_BITS = 320
_SPARE_BITS = 300
_MOST_BITS = 60_000
_MOST_VARIABLES = 12
# Zeros are sought of polynomials up to this degree.
_MOST_DEGREE = 12
# Values of the j-th variable by name: both signs, integers of both parities, near zero.
_POINTS: tuple[Callable[[int], Fraction], ...] = (
    lambda j: Fraction(10_007 + 5_000 * j, 7_001 + 2_000 * j),  # no small multiple of which is an integer
    lambda j: Fraction(6 + 5 * j),
    lambda j: Fraction(9 + 2 * j),
    lambda j: Fraction(-5 - 3 * j, 7 + 2 * j),
    lambda j: Fraction((-1) ** j * (13 + j), 3 + j),
    lambda j: Fraction(2 + j, 11 + 3 * j),
    lambda j: Fraction((-1) ** (j + 1) * (1 + j), 17 + 5 * j),
)
# Functions with corners or steps, which sample points may miss.
_CORNERED = (sympy.Abs, sympy.sign, sympy.floor, sympy.ceiling, sympy.Mod, sympy.Max, sympy.Min)
_REACHING = (sympy.Limit, sympy.Sum, sympy.Product, sympy.Integral, sympy.Derivative)
_INFINITE = (S.Infinity, S.NegativeInfinity, S.ComplexInfinity, S.NaN)


def is_expression(sympy_object: Any) -> bool:
    """Whether a SymPy object is a number or an expression with numeric values."""
    return isinstance(sympy_object, Expr) and not isinstance(sympy_object, Set)


def same_expressions(candidate: Any, reference: Any) -> Verdict:
    """Whether two expressions have the same values wherever both have any.

    Numbers are different if their values are certainly apart. They are the same if they are equal fractions, or if
    their values agree to so many digits that different numbers made of the same parts would have shown a difference:
    twice the digits of everything that occurs in them, plus 90. With variables, this must hold at points of all kinds;
    if it holds at only some of them, the expressions are neither the same nor different.
    """
    if candidate in _INFINITE or reference in _INFINITE:
        return _same_infinite(candidate, reference)
    if candidate.has(*_REACHING) or reference.has(*_REACHING):
        if candidate == reference:
            return RIGHT
        done = candidate.doit(), reference.doit()
        unfinished = any(side.has(*_REACHING) for side in done)
        # Their range differs by convention.
        return RIGHT if not unfinished and same_expressions(*done) is RIGHT else UNDECIDED
    names = sorted(candidate.free_symbols | reference.free_symbols, key=str)
    if not names:
        return _same_values(candidate, reference, {}) or UNDECIDED
    if candidate == reference:
        return RIGHT
    if len(names) > _MOST_VARIABLES:
        return UNDECIDED
    verdict = _same_at_points(candidate, reference, names)
    if verdict is RIGHT and (candidate.has(*_CORNERED) or reference.has(*_CORNERED)):
        return RIGHT if sympy.simplify(candidate - reference) == 0 else UNDECIDED
    if verdict is WRONG and _differ_by_multiple_of_pi(candidate, reference, names):
        return UNDECIDED
    return verdict


def _same_infinite(candidate: Any, reference: Any) -> Verdict:
    if not {S.NaN, S.ComplexInfinity}.isdisjoint({candidate, reference}):
        return UNDECIDED
    if candidate == reference:
        return RIGHT
    return WRONG if candidate.is_finite or reference.is_finite or candidate == -reference else UNDECIDED


def _same_at_points(candidate: Any, reference: Any, names: Sequence[Any]) -> Verdict:
    """Right or wrong if every point where both have values shows it, else undecided."""
    verdicts = set()
    far = _far_point(candidate, reference)
    functions = (*_POINTS, lambda j: far * (7 + j) / 7, lambda j: -far * (7 + j) / 7)
    points = [{name: point(place) for place, name in enumerate(names)} for point in functions]
    for point in itertools.chain(points, _between_roots(candidate - reference, points[0])):
        verdicts.add(_same_values(candidate, reference, point))
        if {RIGHT, WRONG} <= verdicts or {RIGHT, None} <= verdicts:
            return UNDECIDED
    return WRONG if WRONG in verdicts else RIGHT if RIGHT in verdicts else UNDECIDED


def _between_roots(expression: Any, point: dict[Any, Fraction]) -> Iterator[dict[Any, Fraction]]:
    """Points between the zeros of what stands under roots, where a root may change its branch.

    One variable moves and the others stay at `point`: sqrt((x-2)^2 (x-3)^2) is not (x-2)(x-3) between 2 and 3 only.
    """
    roots = {part for part in sympy.preorder_traversal(expression) if part.is_Pow and part.exp.is_Integer is not True}
    bases = {root.base for root in roots if root.exp.is_Rational and root.base.free_symbols}
    bases |= {part.args[0] for part in sympy.preorder_traversal(expression) if isinstance(part, _CORNERED[:2])}
    for variable in point:
        other_values = {other_variable: value for other_variable, value in point.items() if other_variable != variable}
        zeros: set[Fraction] = set()
        for base in bases:
            top = sympy.fraction(sympy.together(base.subs(other_values)))[0]
            if not top.is_polynomial(variable) or variable not in top.free_symbols:
                continue
            polynomial = sympy.Poly(top, variable)
            if polynomial.degree() > _MOST_DEGREE or not all(number.is_Rational for number in polynomial.all_coeffs()):
                continue
            for (low, high), _ in polynomial.intervals():
                zeros |= {Fraction(int(low.p), int(low.q)), Fraction(int(high.p), int(high.q))}
        for low, high in itertools.pairwise(sorted(zeros)):
            yield {**point, variable: low + (high - low) * Fraction(31, 67)}


def _far_point(candidate: Any, reference: Any) -> Fraction:
    """A point beyond the numbers in two expressions, and thus beyond places where roots and the like change branch."""
    far = 10
    for part in {*sympy.preorder_traversal(candidate), *sympy.preorder_traversal(reference)}:
        if not part.free_symbols:
            try:
                evaluator = Evaluator(64)
                far *= 2 + int(abs(evaluator.ball(evaluator.value(part)).middle))
            except NoValue:
                continue
    return Fraction(min(far, 10**40) + 1, 3)


def _differ_by_multiple_of_pi(candidate: Any, reference: Any, names: Sequence[Any]) -> bool:
    """Whether two families of angles, such as k*pi and pi + k*pi, differ by a multiple of pi."""
    if not any(str(name) in ("k", "n", "m") for name in names) or not (candidate.has(S.Pi) and reference.has(S.Pi)):
        return False
    return bool(sympy.expand((candidate - reference) / S.Pi).is_Rational)


def _same_values(candidate: Any, reference: Any, point: dict[Any, Fraction]) -> Verdict | None:
    """Whether values are the same; undecided if one has none, None if they are apart with roots taken as real ones."""
    bits = _FIRST_BITS
    try:
        while True:
            evaluator = Evaluator(bits, point)
            left, right = evaluator.value(candidate), evaluator.value(reference)
            difference = evaluator.difference(left, right)
            if isinstance(difference, Fraction):
                same_value = difference == 0
                break
            if abs(difference.middle) > difference.error:
                same_value = False
                break
            needed = _SPARE_BITS + 2 * evaluator.height
            if needed <= bits:
                # Both are within the error, which is far below the size of any number in them.
                same_value = True
                break
            if needed > _MOST_BITS:
                return UNDECIDED
            bits = needed + _SPARE_BITS
    except NoValue:
        return UNDECIDED
    if same_value:
        # An accumulated error proves nothing.
        small = isinstance(difference, Fraction) or difference.error < evaluator.tiny
        return RIGHT if small else UNDECIDED
    return None if evaluator.real_roots else WRONG


def value_near(expression: Any, number: Fraction, distance: Fraction) -> bool:
    """Whether the value of an expression without variables is, or may be, within `distance` of a number."""
    try:
        evaluator = Evaluator(_FIRST_BITS + 4 * distance.denominator.bit_length())
        distance_to_number = evaluator.absolute(evaluator.difference(evaluator.value(expression), number))
        left = evaluator.difference(distance_to_number, distance)
        return left <= 0 if isinstance(left, Fraction) else left.middle <= left.error
    except NoValue:
        return False


def nearly(candidate: Any, reference: Any) -> bool:
    """Whether two expressions differ at a point by no more than sums of rounded decimals may."""
    if not (is_expression(candidate) and is_expression(reference)):
        return True
    names = sorted(candidate.free_symbols | reference.free_symbols, key=str)
    try:
        evaluator = Evaluator(_FIRST_BITS, {name: _POINTS[0](place) for place, name in enumerate(names)})
        left, right = evaluator.ball(evaluator.value(candidate)), evaluator.ball(evaluator.value(reference))
    except NoValue:
        return True
    return bool(abs(left.middle - right.middle) <= 1e-9 * max(abs(left.middle), abs(right.middle)))
