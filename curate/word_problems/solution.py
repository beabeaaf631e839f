"""Exact arithmetic recorded step by step, and random parameters of problems."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

Number = int | Fraction
T = TypeVar("T")


class Draw:
    """Random choices that are the same on every Python version.

    Only `random.Random.random` guarantees its stream for a given seed, so all other draws are built on it.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def integer(self, low: int, high: int) -> int:
        """A uniform integer in low..high, both inclusive."""
        return low + int(self._random() * (high - low + 1))

    def one_of(self, *options: T) -> T:
        return options[int(self._random() * len(options))]

    def distinct(self, options: Sequence[T], k: int) -> list[T]:
        """k distinct options in random order."""
        chosen: list[int] = []
        while len(chosen) < k:
            index = int(self._random() * len(options))
            if index not in chosen:
                chosen.append(index)
        return [options[index] for index in chosen]

    def subset(self, size: int, k: int) -> list[bool]:
        """Mask of k out of `size`, every subset equally likely."""
        chosen = self.distinct(range(size), k)
        return [index in chosen for index in range(size)]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def weighted(self, weights: Sequence[float]) -> int:
        """An index drawn with the given weights, which sum to 1."""
        left = self._random()
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        return len(weights) - 1


def show(value: Number) -> str:
    """Format an integer, an exact decimal if there is one ("12.5"), else a fraction in lowest terms ("7/3")."""
    if isinstance(value, int):
        return str(value)
    top, bottom = value.numerator, value.denominator
    if bottom == 1:
        return str(top)
    rest, twos, fives = bottom, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{top}/{bottom}"
    places = max(twos, fives)
    digits = str(abs(top) * 10**places // bottom).rjust(places + 1, "0")
    return f"{'-' if top < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _operand(value: Number, operator: str) -> str:
    text = show(value)
    return f"({text})" if operator == "/" and "/" in text else text


def _product(factors: Sequence[Number]) -> Number:
    product: Number = 1
    for factor in factors:
        product *= factor
    return product


@dataclass(frozen=True, slots=True)
class Step:
    """One equation: `left` = `value`, which is the `goal` (a noun phrase) in `unit`s."""

    goal: str
    operator: str
    left: str
    value: Number
    unit: str


class Solution:
    """The steps of a worked solution. Each operation records its equation and returns the exact result."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, goal: str, unit: str, *terms: Number) -> Number:
        return self._record(goal, unit, "+", terms, sum(terms))

    def subtract(self, goal: str, unit: str, whole: Number, *parts: Number) -> Number:
        return self._record(goal, unit, "-", (whole, *parts), whole - sum(parts))

    def multiply(self, goal: str, unit: str, *factors: Number) -> Number:
        return self._record(goal, unit, "*", factors, _product(factors))

    def divide(self, goal: str, unit: str, top: Number, bottom: Number) -> Number:
        return self._record(goal, unit, "/", (top, bottom), Fraction(top) / bottom)

    def percent(self, goal: str, unit: str, share: Number, whole: Number) -> Number:
        """`share` % of `whole`."""
        value = Fraction(share) * whole / 100
        self.steps.append(Step(goal, "%", f"{show(whole)} * {show(share)} / 100", value, unit))
        return value

    def combine(
        self,
        goal: str,
        unit: str,
        *products: Sequence[Number],
        less: Sequence[Sequence[Number]] = (),
    ) -> Number:
        """The sum of `products` minus those of `less`, in one equation: a * b + c - d * e."""
        left = " + ".join([" * ".join([show(factor) for factor in product]) for product in products])
        left += "".join([" - " + " * ".join([show(factor) for factor in product]) for product in less])
        value = sum(map(_product, products)) - sum(map(_product, less))
        self.steps.append(Step(goal, "+-", left, value, unit))
        return value

    def _record(self, goal: str, unit: str, operator: str, terms: Sequence[Number], value: Number) -> Number:
        """Append a step that computes `value` from `terms`, and return the value."""
        left = f" {operator} ".join([_operand(term, operator) for term in terms])
        self.steps.append(Step(goal, operator, left, value, unit))
        return value


@dataclass(frozen=True, slots=True)
class Problem:
    """Result of a family: the facts in order, the question, and an irrelevant fact (or "").

    The answer is the value of the last step.
    """

    facts: list[str]
    question: str
    distractor: str
    steps: list[Step]
