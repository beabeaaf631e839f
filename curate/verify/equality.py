"""Compare SymPy objects: expressions by value; sets, matrices and relations by their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy
from sympy import Eq, Interval, MatrixBase, S, Set

from curate.verify.expressions import is_expression, same_expressions
from curate.verify.verdict import Verdict

RIGHT, WRONG, UNDECIDED = Verdict.right, Verdict.wrong, Verdict.undecided
# For each relation in the form "expression below zero": whether it is strict.
_INEQUALITIES = {sympy.StrictLessThan: True, sympy.LessThan: False}


def same(candidate: Any, reference: Any) -> Verdict:
    """Whether two objects are the same. Objects of different kinds, and most relations, are never wrong."""
    if is_expression(candidate) and is_expression(reference):
        return same_expressions(candidate, reference)
    if candidate == reference:
        return RIGHT
    if isinstance(candidate, MatrixBase) and isinstance(reference, MatrixBase):
        if candidate.shape != reference.shape:
            return UNDECIDED if set(candidate.shape) == set(reference.shape) else WRONG
        return _all(same(part, two) for part, two in zip(candidate.flat(), reference.flat(), strict=True))
    if is_expression(candidate) and isinstance(reference, Eq):
        return same(reference, candidate)
    if isinstance(candidate, Eq) and is_expression(reference):
        return _same_as_assigned(candidate, reference)
    if isinstance(candidate, Eq) and isinstance(reference, Eq):
        return _same_equations(candidate, reference)
    sets = [_as_set(left, right) for left, right in ((candidate, reference), (reference, candidate))]
    if None not in sets:
        return _same_sets(*sets)
    return _same_inequalities(candidate, reference)


def _all(verdicts: Iterator[Verdict]) -> Verdict:
    """Right if all are, wrong if any is."""
    distinct = set(verdicts)
    return WRONG if WRONG in distinct else UNDECIDED if UNDECIDED in distinct else RIGHT


# -- relations ------------------------------------------------------------------------------------------------------


def _same_as_assigned(equation: Any, expression: Any) -> Verdict:
    """An equation that ends in a value, such as f(x) = 2x or 3 + 4 = 7, compared with a value."""
    left, right = equation.lhs, equation.rhs
    if not (is_expression(left) and is_expression(right)):
        return UNDECIDED
    assigned = left.is_Symbol or isinstance(left, sympy.core.function.AppliedUndef)
    assigned = assigned or (not left.free_symbols and same(left, right) is RIGHT)
    return RIGHT if assigned and same(right, expression) is RIGHT else UNDECIDED


def _same_equations(candidate: Any, reference: Any) -> Verdict:
    """Equations are the same if they assign the same variable equal values, or if they are multiples.

    Of the others, only linear equations are certainly different.
    """
    sides = [candidate.lhs, candidate.rhs, reference.lhs, reference.rhs]
    if not all(map(is_expression, sides)):
        return same(candidate.rhs, reference.rhs) if candidate.lhs == reference.lhs else UNDECIDED
    if (
        candidate.lhs == reference.lhs
        and candidate.lhs.is_Symbol
        and not (candidate.rhs.has(candidate.lhs) or reference.rhs.has(candidate.lhs))
    ):
        return same(candidate.rhs, reference.rhs)
    left, right = candidate.lhs - candidate.rhs, reference.lhs - reference.rhs
    if not (left.free_symbols and right.free_symbols):
        return UNDECIDED
    verdict = _multiples(left, right)
    linear = all(side.is_polynomial() and side.as_poly().total_degree() == 1 for side in (left, right))
    return verdict if verdict is not WRONG or linear else UNDECIDED


def _multiples(left: Any, right: Any, *, positive: bool = False) -> Verdict:
    """Whether one expression is a constant times the other."""
    names = sorted(left.free_symbols | right.free_symbols, key=str)
    # Not one of the points at which expressions are compared: there, the products below are equal.
    point = {name: sympy.Rational(31 + 8 * place, 19 + 2 * place) for place, name in enumerate(names)}
    factors = left.subs(point), right.subs(point)
    if any(same_expressions(factor, S.Zero) is not WRONG for factor in factors):
        return UNDECIDED
    if positive and (factors[0] * factors[1]).is_positive is not True:
        return UNDECIDED
    return same_expressions(left * factors[1], right * factors[0])


def _same_inequalities(candidate: Any, reference: Any) -> Verdict:
    """Inequalities are the same if one is a positive multiple of the other; otherwise this is undecided."""
    left, right = _below_zero(candidate), _below_zero(reference)
    if left is None or right is None or left[1] != right[1]:
        return UNDECIDED
    return RIGHT if _multiples(left[0], right[0], positive=True) is RIGHT else UNDECIDED


def _below_zero(relation: Any) -> tuple[Any, bool] | None:
    """The expression that an inequality states to be below zero, and whether strictly."""
    if isinstance(relation, sympy.StrictGreaterThan | sympy.GreaterThan):
        relation = relation.reversed
    strict = _INEQUALITIES.get(type(relation))
    return None if strict is None else (relation.lhs - relation.rhs, strict)


# -- sets -----------------------------------------------------------------------------------------------------------


def _as_set(sympy_object: Any, counterpart: Any) -> Any | None:
    """A set, or the solution set of an inequality in one variable; None for anything else."""
    if isinstance(sympy_object, Set):
        return sympy_object
    if not isinstance(sympy_object, sympy.core.relational.Relational | sympy.And | sympy.Or):
        return None
    names = sympy_object.free_symbols
    if (
        len(names) != 1
        or (counterpart.free_symbols and counterpart.free_symbols != names)
        or isinstance(sympy_object, Eq)
    ):
        return None
    try:
        return sympy_object.as_set()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None


def _same_sets(candidate: Any, reference: Any) -> Verdict:
    if candidate == reference:
        return RIGHT
    left, right = _pieces(candidate), _pieces(reference)
    if left is not None and right is not None:
        verdict = _all(iter((_matched(left[0], right[0], _same_spans), _matched(left[1], right[1], same))))
        if verdict is RIGHT or (not left[0] and not right[0]):
            return verdict
    if candidate.free_symbols or reference.free_symbols:
        return UNDECIDED
    return WRONG if candidate.symmetric_difference(reference).is_empty is False else UNDECIDED


def _pieces(sympy_set: Any) -> tuple[list[Any], list[Any]] | None:
    """The intervals and single elements that make up a set; None for other sets."""
    parts = sympy_set.args if isinstance(sympy_set, sympy.Union) else () if sympy_set is S.EmptySet else (sympy_set,)
    parts = [Interval(-S.Infinity, S.Infinity) if part is S.Reals else part for part in parts]
    if not all(isinstance(part, Interval) or part.is_FiniteSet for part in parts):
        return None
    spans = [part for part in parts if isinstance(part, Interval)]
    return spans, [element for part in parts if part.is_FiniteSet for element in part.args]


def _same_spans(first: Any, second: Any) -> Verdict:
    if (first.left_open, first.right_open) != (second.left_open, second.right_open):
        return WRONG
    return _all(iter((same(first.start, second.start), same(first.end, second.end))))


def _matched(candidate: Sequence[Any], reference: Sequence[Any], match: Callable[[Any, Any], Verdict]) -> Verdict:
    """Whether each part has an equal on the other side; undecided if some may be equal in another notation."""
    rows = [[match(part, other_part) for other_part in reference] for part in candidate]
    rows += [[row[place] for row in rows] for place in range(len(reference))]
    if all(RIGHT in row for row in rows):
        return RIGHT
    return WRONG if any(UNDECIDED not in row and RIGHT not in row for row in rows) else UNDECIDED
