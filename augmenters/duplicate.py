"""Show some rows more often."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from curate.component import Component
from curate.plan import Kind, Plan
from curate.scores import Split

__all__ = ["Duplicate"]


class Duplicate(Component):
    """Extra copies of the hard rows (arXiv 2602.00576; the upsampling of USEFUL, arXiv 2404.17768).

    times: EXTRA copies, so 1 shows a row twice per epoch; under 1,000.
    of: "hard"; or a control: "easy" rows, or as many "random" valid rows as there are hard ones.
    cap: most extra rows, as a share of the rows planned so far; beyond it a seeded sample of the hard rows is
        copied. None = no cap.
    noise_guard: share of the chosen rows, those of highest final loss, that get no copies: a row that is still
        wrong at the end is more likely mislabelled than instructive. 0 = off, as in the paper.
    """

    times: int = Field(default=1, ge=1, lt=1000)
    of: Kind = "hard"
    cap: float | None = Field(default=None, gt=0)
    noise_guard: float = Field(default=0.0, ge=0, lt=1)

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Raises InputError if the noise guard is on and the scorer recorded no losses."""
        generator = np.random.default_rng(seed)
        rows = plan.choose(self.of, split, generator)
        plan = plan.mark_suspects(rows, split, self.noise_guard, "Duplicate.noise_guard")
        rows = plan.trusted(rows)
        if self.cap is not None:
            most = int(self.cap * int(plan.counts.sum())) // self.times
            if len(rows) > most:
                rows = np.sort(generator.choice(rows, most, replace=False))
        counts = plan.counts.copy()
        counts[rows] += self.times
        return plan.with_counts(counts)
