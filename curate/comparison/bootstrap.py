"""The pigeonhole bootstrap of Owen (2007): an interval to look at beside `curate.comparison.statistics`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.comparison.variance import Tables, Weights, paired_tables
from curate.seeds import derive_seed

__all__ = ["pigeonhole_interval"]


def pigeonhole_interval(
    arm: Tables,
    baseline: Tables,
    *,
    weights: Weights = None,
    shares: Sequence[float] | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of arm - baseline: seeds and, within each set, examples are drawn anew with replacement.

    The same draw serves both arms. Arguments and errors as for paired_interval.
    """
    pairs, masses, portions = paired_tables(arm, baseline, weights, shares)
    count = pairs[0].shape[1]
    generator = np.random.default_rng(derive_seed(seed, "comparison", "bootstrap"))
    of_seeds = generator.multinomial(count, np.full(count, 1 / count), resamples) / count
    total = np.zeros(resamples)
    for pair, mass, portion in zip(pairs, masses, portions, strict=True):
        n = len(mass)
        # (n, S + 1): what an example adds to the sums of each seed, and to the sum of the weights.
        added = np.column_stack([((pair[0] - pair[1]) * mass).T, mass])
        at_once = max(1, 200_000 // n)
        for low in range(0, resamples, at_once):
            part = slice(low, min(low + at_once, resamples))
            sums = added[generator.integers(n, size=(part.stop - part.start, n))].sum(axis=1)
            total[part] += portion * np.einsum("rs,rs->r", of_seeds[part], sums[:, :-1]) / sums[:, -1]
    tail = (1 - level) / 2
    return float(np.quantile(total, tail)), float(np.quantile(total, 1 - tail))
