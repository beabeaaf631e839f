"""Outcomes of grading: the verdict on one answer, and the decision on a problem by the pass rate of its solutions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Decision = Literal["in the band", "too easy", "too hard", "cannot be graded"]


class Verdict(StrEnum):
    """Outcome of grading. `undecided` is neither: nothing was found, understood, or finished in time."""

    right = "right"
    wrong = "wrong"
    undecided = "undecided"


@dataclass(frozen=True)
class PassRateBand:
    """A problem is kept if low..high (inclusive) of `samples` solutions are right (SvS: 1..5 of 8).

    A solution that could not be graded is never guessed at: whether it was right or wrong must not matter.
    """

    low: int
    high: int
    samples: int

    def decide(self, right: int, undecided: int, drawn: int) -> Decision | None:
        """What is certain after `drawn` samples, whatever the others would be; None = nothing yet."""
        most = right + undecided + self.samples - drawn  # right ones there can still be
        if right > self.high:
            return "too easy"
        if most < self.low:
            return "too hard"
        if right >= self.low and most <= self.high:
            return "in the band"
        return "cannot be graded" if drawn == self.samples else None

    def next_samples(self, right: int, undecided: int, drawn: int) -> int:
        """The fewest further samples that could decide; 0 once it is decided."""
        if self.decide(right, undecided, drawn) is not None:
            return 0
        most = right + undecided + self.samples - drawn
        easy = self.high + 1 - right  # right answers, until more are right than the band allows
        hard = most - self.low + 1  # wrong answers, until too few can be right
        inside = max(self.low - right, 0) + max(most - self.high, 0)  # right and wrong ones, until neither can be
        left = self.samples - drawn
        return min(easy, hard, inside, left)
