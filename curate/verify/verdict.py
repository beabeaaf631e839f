"""Outcomes of grading: the verdict on one answer, and the decision on a problem by the pass rate of its solutions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Decision = Literal["in the band", "too easy", "too hard", "cannot be graded"]


class Verdict(StrEnum):
    """Outcome of grading. `undecided`: no answer, an answer that is not understood, or a comparison that timed out."""

    right = "right"
    wrong = "wrong"
    undecided = "undecided"


@dataclass(frozen=True)
class PassRateBand:
    """A problem is kept if low..high (inclusive) of `samples` solutions are right (SvS: 1..5 of 8).

    The decision never depends on whether an ungraded solution is right or wrong.
    """

    low: int
    high: int
    samples: int

    def decide(self, right: int, undecided: int, drawn: int) -> Decision | None:
        """The decision that is certain after `drawn` samples, whatever the remaining ones would be; None = none yet."""
        most = right + undecided + self.samples - drawn  # maximum number of right ones
        if right > self.high:
            return "too easy"
        if most < self.low:
            return "too hard"
        if right >= self.low and most <= self.high:
            return "in the band"
        return "cannot be graded" if drawn == self.samples else None

    def next_samples(self, right: int, undecided: int, drawn: int) -> int:
        """The smallest number of further samples that could decide; 0 once it is decided."""
        if self.decide(right, undecided, drawn) is not None:
            return 0
        most = right + undecided + self.samples - drawn
        easy = self.high + 1 - right  # right answers, until more are right than the band allows
        hard = most - self.low + 1  # wrong answers, until too few can be right
        inside = max(self.low - right, 0) + max(most - self.high, 0)  # right and wrong ones, until neither can be
        left = self.samples - drawn
        return min(easy, hard, inside, left)
