"""Check that a problem states every number its solutions use."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from augmenters.synthesis.checks.quantities import (
    Equation,
    Operand,
    constants,
    equations,
    number_words,
    numbers,
    sentences,
)

REASON = "solutions use what the problem does not state"


def fault(problem: str, right: Sequence[str], least: int) -> str | None:
    """The fault of a right solution, if fewer than `least` of them are grounded; or None.

    A solution is grounded if it calculates with numbers of the problem, its own results, and constants such as the
    minutes of an hour, and its equations hold. One without readable equations counts as grounded.
    """
    faults = [solution_fault(problem, text) for text in right]
    grounded = sum(problem_found is None for problem_found in faults)
    if grounded >= min(least, len(right)):
        return None
    return next(problem_found for problem_found in faults if problem_found is not None)


def solution_fault(problem: str, solution: str) -> str | None:
    """The first number of a solution with unknown origin, or its first false equation; None if there is none.

    Numbers without a source, and equations that do not hold, show that a solution reached the answer by luck, or by
    guessing what the problem leaves out.
    """
    known_numbers = set(numbers(problem)) | number_words(problem) | constants(problem + solution)
    for sentence in sentences(solution):
        for equation in equations(sentence):
            if (fault := _equation_fault(equation, known_numbers)) is not None:
                return fault
            known_numbers.add(equation.result.value)
            known_numbers.update(equation.result.readings)
        known_numbers |= _derived(numbers(sentence), known_numbers)
    return None


def _equation_fault(equation: Equation, known: set[Fraction]) -> str | None:
    if not equation.holds:
        return f"an equation with the result {_shown(equation.result.value)} does not hold"
    for operand in equation.operands:
        if not _is_known(operand, known):
            return f"{_shown(operand.value)} from nowhere"
    return None


def _is_known(operand: Operand, known: set[Fraction]) -> bool:
    if any(form in known for value in operand.readings for form in _forms(value)):
        return True
    slack = Fraction(1, 2 * 10**operand.decimals)
    return bool(operand.decimals) and any(abs(value - operand.value) <= slack for value in known)


def _forms(value: Fraction) -> tuple[Fraction, ...]:
    """The number itself, and givens that it may come from: 80 % for 20 % off, 0.25 for 25 % and a quarter."""
    forms = (value, value * 100, 100 - value, (1 - value) * 100, (value - 1) * 100, 1 - value, value - 100)
    return forms if not value else (*forms, 1 / value)


def _derived(stated: Sequence[Fraction], known: set[Fraction]) -> set[Fraction]:
    """The numbers of a sentence that two known ones in it make: "3 packs of 4, so 12 in all"."""
    old = [number for number in stated if number in known]
    derivable = {value for a in old for b in old for value in (a + b, a - b, a * b, a / b if b else a)}
    return {number for number in stated if number in derivable}


def _shown(value: Fraction) -> str:
    return str(float(value)).removesuffix(".0") if value.denominator > 1 else str(value)
