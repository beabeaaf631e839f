"""Exposure of groups of rows when some rows are repeated, and the slope of their loss curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from curate.types import Float64Array, IntArray

# Budgets are equal steps unless stated otherwise: copies of some rows then displace others. If groups neither help nor
# disturb each other, a group that is seen m times as often advances along its own loss curve as far as m times the
# steps would take it; the cost of repetition comes on top.

GAIN = 2.0
"""Target exposure m of hard rows at equal steps, for which a factor of copies is suggested."""


def multiples(extra: Mapping[str, float], extra_of_all: float) -> dict[str, float]:
    """{group: exposure m at equal steps}. extra: mean extra copies per row of each group; extra_of_all: of all rows."""
    return {group: (1 + copies) / (1 + extra_of_all) for group, copies in extra.items()}


def of_copied(share: float, factor: float) -> tuple[float, float]:
    """(m of the copied rows, m of the others) if a `share` of the rows occurs `factor` times."""
    m = multiples({"copied": factor - 1, "others": 0.0}, (factor - 1) * share)
    return m["copied"], m["others"]


def effective(share: float, factor: float) -> float:
    """`effective_share` if a `share` of the rows occurs `factor` times and every other row once."""
    return (1 + (factor - 1) * share) ** 2 / (1 + (factor**2 - 1) * share)


def effective_share(counts: npt.ArrayLike) -> float:
    """Kish's effective sample size over n, (sum c)^2 / (n sum c^2), for counts c (n,) of each row, not all 0.

    Kish, Survey Sampling (1965).
    """
    c = np.asarray(counts, np.float64)
    return float(c.sum() ** 2 / (len(c) * (c**2).sum()))


def factor_for(gain: float, share: float) -> int | None:
    """Smallest integer factor by which to repeat a `share` of the rows for m >= `gain`; None if there is none.

    For any factor, m stays below 1 / share.
    """
    if gain * share >= 1:
        return None
    exact = gain * (1 - share) / (1 - gain * share)
    return max(1, math.ceil(exact - 1e-9))  # tolerance for rounding errors of an exact integer


def last_e_fold(steps: npt.ArrayLike) -> IntArray:
    """Positions, among ascending steps (K,), of those in the last e-fold, at least the last two; never of step 0."""
    step_numbers = np.asarray(steps, np.float64)
    late = np.flatnonzero(step_numbers >= step_numbers.max(initial=1.0) / np.e)
    return late if len(late) > 1 else np.flatnonzero(step_numbers > 0)[-2:]


def fall_per_e_fold(steps: npt.ArrayLike, losses: npt.ArrayLike) -> Float64Array:
    """(...,) fall of losses (..., K) per e-fold of steps (K,), K > 1: minus their slope over the log of the step."""
    log_steps, values = np.log(np.asarray(steps, np.float64)), np.asarray(losses, np.float64)
    centered = log_steps - log_steps.mean()
    return np.asarray(-(values @ centered) / (centered @ centered))


def read_curve(steps: Sequence[float], losses: Sequence[float], step: float) -> float:
    """Loss after `step` steps by log-log interpolation, extrapolated with the slope of the last doubling."""
    log_steps, log_losses = np.log(steps), np.log(np.maximum(losses, 1e-9))
    if np.log(step) <= log_steps[-1]:
        return float(np.exp(np.interp(np.log(step), log_steps, log_losses)))
    back = np.interp(log_steps[-1] - np.log(2), log_steps, log_losses)
    return float(np.exp(log_losses[-1] + (log_losses[-1] - back) / np.log(2) * (np.log(step) - log_steps[-1])))
