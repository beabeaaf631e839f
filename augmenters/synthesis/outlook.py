"""Early assessment of a running synthesis: report on its first proposals, and decide when to stop."""

from __future__ import annotations

import math

from augmenters.synthesis.variant_group import VariantGroup
from augmenters.synthesis.variants import KEPT
from curate.verify import Verdict

FIRST = 20  # proposals before the first report
_WEAK = 0.1  # share of right solutions of the generator's own problems
_Z = 1.96


class Outlook:
    """Counts over the proposals of finished groups. Reported once, when the first 20 are finished."""

    def __init__(self) -> None:
        self.proposals = self.kept = self.with_problem = self.solved = self.drawn = self.right = 0
        self._told = False

    def count(self, group: VariantGroup) -> str | None:
        """Count a finished group; returns the report on the first proposals, once there are enough of them."""
        for variant in group.variants:
            if variant.proposal is None:
                continue
            self.proposals += 1
            self.kept += variant.outcome == KEPT
            self.with_problem += variant.problem is not None
            self.solved += bool(variant.drawn)
            self.drawn += len(variant.drawn)
            self.right += variant.count(Verdict.right)
        if self._told or self.proposals < FIRST:
            return None
        self._told = True
        return self.said()

    def said(self) -> str:
        """One line on the proposals so far, with a remedy if one is needed."""
        line = f"after {self.proposals:,} proposals: {self.kept:,} kept"
        advice = self.advice()
        return f"{line}; {advice}" if advice else line

    def advice(self) -> str | None:
        """What is wrong with the generator, and the remedy; None if nothing stands out."""
        if not self.proposals:
            return None
        if self.with_problem < 0.5 * self.proposals:
            return (
                f"only {self.with_problem:,} hold a problem: use an instruction-tuned generator (names that end in "
                "-Instruct or -it)"
            )
        if self.drawn and self.right < _WEAK * self.drawn:
            return (
                f"the generator solves fewer than a tenth of its own problems ({self.right:,} of {self.drawn:,} "
                "solutions reach the parent's answer): it is too weak to write problems from these rows; use a "
                "stronger one, or start from easier rows (--of random)"
            )
        if self.solved and not self.kept:
            return "none is kept yet: look at them with --preview 20 before more is spent"
        return None

    def hopeless(self, least_yield: float) -> bool:
        """Whether the share of kept proposals is below `least_yield` with 97.5 % confidence (Wilson's upper bound)."""
        n = self.proposals
        if not least_yield or n < FIRST:
            return False
        p, z2 = self.kept / n, _Z * _Z
        upper = (p + z2 / (2 * n) + _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
        return upper < least_yield

    def why_stopped(self, least_yield: float) -> str:
        """One line on why a hopeless run ended."""
        return (
            f"stopped: {self.kept:,} of {self.proposals:,} proposals are kept, fewer than the {least_yield:.0%} asked "
            "for; all completions are stored, and --least-yield 0 resumes from here"
        )
