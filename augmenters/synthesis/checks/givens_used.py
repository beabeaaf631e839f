"""Check that a problem uses what it states: a number that no right solution uses is superfluous or contradictory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from augmenters.synthesis.checks.quantities import equations, number_words, numbers, rewritten, sentences

REASON = "states what no solution uses"

_CHOICES = re.compile(r"\(?A[).:]\s.*\(?B[).:]\s", re.S)
_YEAR = re.compile(r"\b(?:in|of|since|until|by|year)\s+(?:19|20)\d\d\b(?!\s*[A-Za-z]*s\b)", re.I)
_LABEL = re.compile(r"\b(?:number|no\.|room|grade|chapter|page|route|bus|line|level|class|flight|#)\s*\d+", re.I)


def fault(problem: str, right: Sequence[str]) -> str | None:
    """The number that none of the right solutions uses, or None.

    Only solutions with calculations show what they use; without one, there is no fault. A number is used if it is in
    an equation, or in a sentence in which two numbers make a third; "the 7 weeks do not matter" does not use it. Years,
    labels ("room 12") and the number 1 need not be used; 20% may be used as 0.2, 0.8 or 80.
    """
    if _CHOICES.search(problem):
        return None
    working = [text for text in right if equations(text)]
    if not working:
        return None
    used = {number for text in working for number in _used(text)}
    stated = numbers(_LABEL.sub(" ", _YEAR.sub(" ", rewritten(problem))))
    unused = [number for number in stated if number != 1 and not any(form in used for form in _forms(number))]
    return str(float(unused[0])).removesuffix(".0") if unused else None


def _used(text: str) -> set[Fraction]:
    used = {value for equation in equations(text) for operand in equation.operands for value in operand.readings}
    for sentence in sentences(text):
        stated = [*numbers(sentence), *number_words(sentence)]
        for a, b in combinations(stated, 2):
            results = {a + b, a - b, b - a, a * b, *([a / b] if b else ()), *([b / a] if a else ())}
            if results & (set(stated) - {a, b}):
                used |= {a, b}
    return used


def _forms(number: Fraction) -> tuple[Fraction, ...]:
    forms = [number, number / 100, 100 - number, 1 - number / 100, 1 + number / 100, 100 + number, 1 - number]
    return tuple([*forms, 1 / number] if number else forms)
