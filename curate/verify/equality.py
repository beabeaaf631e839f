"""Whether two SymPy objects are the same: by values that are exact or have error bounds, never by a tolerance.

Numbers are different if their values are certainly apart. They are the same if they are equal fractions, or if their
values agree to so many digits that numbers made of the same parts, were they different, would have shown it: twice the
digits of everything that occurs in them, and 90 more. With variables that has to hold at points of all kinds; where it
holds at some of them only, the two are neither. Sets, matrices and relations are the same by their parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import sympy
from sympy import Eq, Expr, Interval, MatrixBase, S, Set

from curate.verify.values import Evaluator, NoValue
from curate.verify.verdict import Verdict

__all__ = ["nearly", "same", "value_near"]

RIGHT, WRONG, UNDECIDED = Verdict.right, Verdict.wrong, Verdict.undecided
# Bits of the first look, bits beyond those that heights account for, and most bits.
_FIRST_BITS = 320
_SPARE_BITS = 300
_MOST_BITS = 60_000
_MOST_VARIABLES = 12
# Values of the j-th variable by name: of both signs, integers of both parities, near zero.
_POINTS: tuple[Callable[[int], Fraction], ...] = (
    lambda j: Fraction(7 + 4 * j, 5 + 2 * j),
    lambda j: Fraction(6 + 5 * j),
    lambda j: Fraction(9 + 2 * j),
    lambda j: Fraction(-5 - 3 * j, 7 + 2 * j),
    lambda j: Fraction((-1) ** j * (13 + j), 3 + j),
    lambda j: Fraction(2 + j, 11 + 3 * j),
    lambda j: Fraction((-1) ** (j + 1) * (1 + j), 17 + 5 * j),
)
# Functions with corners or steps, which points may miss.
_CORNERED = (sympy.Abs, sympy.sign, sympy.floor, sympy.ceiling, sympy.Mod, sympy.Max, sympy.Min)
_REACHING = (sympy.Limit, sympy.Sum, sympy.Product, sympy.Integral, sympy.Derivative)
_INFINITE = (S.Infinity, S.NegativeInfinity, S.ComplexInfinity, S.NaN)
_INEQUALITIES = {sympy.StrictLessThan: True, sympy.LessThan: False}


def same(mine: Any, theirs: Any) -> Verdict:
    """Whether two objects are the same. Those of different kinds, and most relations, are never wrong."""
    if _is_expression(mine) and _is_expression(theirs):
        return _same_expressions(mine, theirs)
    if mine == theirs:
        return RIGHT
    if isinstance(mine, MatrixBase) and isinstance(theirs, MatrixBase):
        if mine.shape != theirs.shape:
            return UNDECIDED if set(mine.shape) == set(theirs.shape) else WRONG
        return _all(same(one, two) for one, two in zip(mine.flat(), theirs.flat(), strict=True))
    if _is_expression(mine) and isinstance(theirs, Eq):
        return same(theirs, mine)
    if isinstance(mine, Eq) and _is_expression(theirs):
        return _same_as_assigned(mine, theirs)
    if isinstance(mine, Eq) and isinstance(theirs, Eq):
        return _same_equations(mine, theirs)
    sets = [_as_set(one, other) for one, other in ((mine, theirs), (theirs, mine))]
    if None not in sets:
        return _same_sets(*sets)
    return _same_inequalities(mine, theirs)


def _is_expression(thing: Any) -> bool:
    return isinstance(thing, Expr) and not isinstance(thing, Set)


def _all(verdicts: Iterator[Verdict]) -> Verdict:
    """Right if all are, wrong if any is."""
    found = set(verdicts)
    return WRONG if WRONG in found else UNDECIDED if UNDECIDED in found else RIGHT


# -- expressions ----------------------------------------------------------------------------------------------------


def _same_expressions(mine: Any, theirs: Any) -> Verdict:
    if mine in _INFINITE or theirs in _INFINITE:
        return _same_infinite(mine, theirs)
    if mine.has(*_REACHING) or theirs.has(*_REACHING):
        if mine == theirs:
            return RIGHT
        done = mine.doit(), theirs.doit()
        unfinished = any(side.has(*_REACHING) for side in done)
        # How far these reach is a matter of taste.
        return RIGHT if not unfinished and _same_expressions(*done) is RIGHT else UNDECIDED
    names = sorted(mine.free_symbols | theirs.free_symbols, key=str)
    if not names:
        return _same_values(mine, theirs, {})
    if mine == theirs:
        return RIGHT
    if len(names) > _MOST_VARIABLES:
        return UNDECIDED
    found = _same_at_points(mine, theirs, names)
    if found is RIGHT and (mine.has(*_CORNERED) or theirs.has(*_CORNERED)):
        return RIGHT if sympy.simplify(mine - theirs) == 0 else UNDECIDED
    if found is WRONG and _turned(mine, theirs, names):
        return UNDECIDED
    return found


def _same_infinite(mine: Any, theirs: Any) -> Verdict:
    if not {S.NaN, S.ComplexInfinity}.isdisjoint({mine, theirs}):
        return UNDECIDED
    if mine == theirs:
        return RIGHT
    return WRONG if mine.is_finite or theirs.is_finite or mine == -theirs else UNDECIDED


def _same_at_points(mine: Any, theirs: Any, names: Sequence[Any]) -> Verdict:
    """Right, or wrong, if that shows at every point where both have values."""
    found = set()
    far = _far_point(mine, theirs)
    for point in (*_POINTS, lambda j: far * (7 + j) / 7, lambda j: -far * (7 + j) / 7):
        verdict = _same_values(mine, theirs, {name: point(place) for place, name in enumerate(names)})
        found.add(verdict)
        if {RIGHT, WRONG} <= found:
            return UNDECIDED
    return WRONG if WRONG in found else RIGHT if RIGHT in found else UNDECIDED


def _far_point(mine: Any, theirs: Any) -> Fraction:
    """Beyond the numbers in two expressions, and with them the places where a root or its like takes another branch."""
    numbers = [abs(Fraction(int(n.p), int(n.q))) for side in (mine, theirs) for n in side.atoms(sympy.Rational)]
    return min(math.prod((1 + number for number in numbers), start=Fraction(10)), Fraction(10**12 + 7, 3))


def _turned(mine: Any, theirs: Any, names: Sequence[Any]) -> bool:
    """Whether two families of angles, such as k*pi and pi + k*pi, are a multiple of pi apart."""
    if not any(str(name) in ("k", "n", "m") for name in names) or not (mine.has(S.Pi) and theirs.has(S.Pi)):
        return False
    return bool(sympy.expand((mine - theirs) / S.Pi).is_Rational)


def _same_values(mine: Any, theirs: Any, point: dict[Any, Fraction]) -> Verdict:
    bits = _FIRST_BITS
    try:
        while True:
            at = Evaluator(bits, point)
            ours, other = at.value(mine), at.value(theirs)
            apart = at.difference(ours, other)
            if isinstance(apart, Fraction):
                same_value = apart == 0
                break
            if abs(apart.middle) > apart.error:
                same_value = False
                break
            needed = _SPARE_BITS + 2 * at.height
            if needed <= bits:
                # Both are within the error, and that is far below the size of anything in them.
                same_value = True
                break
            if needed > _MOST_BITS:
                return UNDECIDED
            bits = needed + _SPARE_BITS
    except NoValue:
        return UNDECIDED
    if same_value:
        # An error that grew on the way shows nothing.
        small = isinstance(apart, Fraction) or apart.error < at.tiny
        return RIGHT if small else UNDECIDED
    return UNDECIDED if at.real_roots else WRONG


def value_near(expression: Any, number: Fraction, distance: Fraction) -> bool:
    """Whether the value of an expression without variables is, or may be, within `distance` of a number."""
    try:
        at = Evaluator(_FIRST_BITS + 4 * distance.denominator.bit_length())
        apart = at.absolute(at.difference(at.value(expression), number))
        left = at.difference(apart, distance)
        return left <= 0 if isinstance(left, Fraction) else left.middle <= left.error
    except NoValue:
        return False


def nearly(mine: Any, theirs: Any) -> bool:
    """Whether two expressions are, at a point, no further apart than sums of rounded decimals may be."""
    if not (_is_expression(mine) and _is_expression(theirs)):
        return True
    names = sorted(mine.free_symbols | theirs.free_symbols, key=str)
    try:
        at = Evaluator(_FIRST_BITS, {name: _POINTS[0](place) for place, name in enumerate(names)})
        ours, other = at.ball(at.value(mine)), at.ball(at.value(theirs))
    except NoValue:
        return True
    return bool(abs(ours.middle - other.middle) <= 1e-9 * max(abs(ours.middle), abs(other.middle)))


# -- relations ------------------------------------------------------------------------------------------------------


def _same_as_assigned(equation: Any, expression: Any) -> Verdict:
    """An equation that ends in a value, as in f(x) = 2x or 3 + 4 = 7, against a value."""
    left, right = equation.lhs, equation.rhs
    if not (_is_expression(left) and _is_expression(right)):
        return UNDECIDED
    given = left.is_Symbol or isinstance(left, sympy.core.function.AppliedUndef)
    given = given or (not left.free_symbols and same(left, right) is RIGHT)
    return RIGHT if given and same(right, expression) is RIGHT else UNDECIDED


def _same_equations(mine: Any, theirs: Any) -> Verdict:
    """Equations that give the same variable by their other sides; others are the same if they are multiples.

    Of those that are not, only linear ones are certainly different.
    """
    sides = [mine.lhs, mine.rhs, theirs.lhs, theirs.rhs]
    if not all(map(_is_expression, sides)):
        return same(mine.rhs, theirs.rhs) if mine.lhs == theirs.lhs else UNDECIDED
    if mine.lhs == theirs.lhs and mine.lhs.is_Symbol and not (mine.rhs.has(mine.lhs) or theirs.rhs.has(mine.lhs)):
        return same(mine.rhs, theirs.rhs)
    ours, other = mine.lhs - mine.rhs, theirs.lhs - theirs.rhs
    if not (ours.free_symbols and other.free_symbols):
        return UNDECIDED
    found = _multiples(ours, other)
    linear = all(side.is_polynomial() and side.as_poly().total_degree() == 1 for side in (ours, other))
    return found if found is not WRONG or linear else UNDECIDED


def _multiples(ours: Any, other: Any, *, positive: bool = False) -> Verdict:
    """Whether one expression is a constant times the other."""
    names = sorted(ours.free_symbols | other.free_symbols, key=str)
    # Not one of the points at which they are compared: there, the products below are equal.
    point = {name: sympy.Rational(31 + 8 * place, 19 + 2 * place) for place, name in enumerate(names)}
    factors = ours.subs(point), other.subs(point)
    if any(_same_expressions(factor, S.Zero) is not WRONG for factor in factors):
        return UNDECIDED
    if positive and (factors[0] * factors[1]).is_positive is not True:
        return UNDECIDED
    return _same_expressions(ours * factors[1], other * factors[0])


def _same_inequalities(mine: Any, theirs: Any) -> Verdict:
    """Inequalities are the same if one is a positive multiple of the other; else they may be all the same."""
    both = [_below_zero(side) for side in (mine, theirs)]
    if None in both:
        return UNDECIDED
    (ours, strict), (other, as_strict) = both
    same_multiple = strict == as_strict and _multiples(ours, other, positive=True) is RIGHT
    return RIGHT if same_multiple else UNDECIDED


def _below_zero(relation: Any) -> tuple[Any, bool] | None:
    """What an inequality says is below zero, and whether strictly."""
    if isinstance(relation, sympy.StrictGreaterThan | sympy.GreaterThan):
        relation = relation.reversed
    strict = _INEQUALITIES.get(type(relation))
    return None if strict is None else (relation.lhs - relation.rhs, strict)


# -- sets -----------------------------------------------------------------------------------------------------------


def _as_set(thing: Any, other: Any) -> Any | None:
    """A set, or the set of numbers for which an inequality of one variable holds; None for anything else."""
    if isinstance(thing, Set):
        return thing
    if not isinstance(thing, sympy.core.relational.Relational | sympy.And | sympy.Or):
        return None
    names = thing.free_symbols
    if len(names) != 1 or (other.free_symbols and other.free_symbols != names) or isinstance(thing, Eq):
        return None
    try:
        return thing.as_set()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None


def _same_sets(mine: Any, theirs: Any) -> Verdict:
    if mine == theirs:
        return RIGHT
    pieces = [_pieces(side) for side in (mine, theirs)]
    if None not in pieces:
        (spans, points), (other_spans, other_points) = pieces
        found = _all(iter((_matched(spans, other_spans, _same_spans), _matched(points, other_points, same))))
        if found is RIGHT or (not spans and not other_spans):
            return found
    if mine.free_symbols or theirs.free_symbols:
        return UNDECIDED
    return WRONG if mine.symmetric_difference(theirs).is_empty is False else UNDECIDED


def _pieces(thing: Any) -> tuple[list[Any], list[Any]] | None:
    """Intervals and single elements of a set that consists of them; None for other sets."""
    parts = thing.args if isinstance(thing, sympy.Union) else () if thing is S.EmptySet else (thing,)
    parts = [Interval(-S.Infinity, S.Infinity) if part is S.Reals else part for part in parts]
    if not all(isinstance(part, Interval) or part.is_FiniteSet for part in parts):
        return None
    spans = [part for part in parts if isinstance(part, Interval)]
    return spans, [element for part in parts if part.is_FiniteSet for element in part.args]


def _same_spans(one: Any, other: Any) -> Verdict:
    if (one.left_open, one.right_open) != (other.left_open, other.right_open):
        return WRONG
    return _all(iter((same(one.start, other.start), same(one.end, other.end))))


def _matched(mine: Sequence[Any], theirs: Sequence[Any], match: Callable[[Any, Any], Verdict]) -> Verdict:
    """Whether each part has its equal on the other side, where some may be the same in another writing."""
    rows = [[match(one, other) for other in theirs] for one in mine]
    rows += [[row[place] for row in rows] for place in range(len(theirs))]
    if all(RIGHT in row for row in rows):
        return RIGHT
    return WRONG if any(UNDECIDED not in row and RIGHT not in row for row in rows) else UNDECIDED
