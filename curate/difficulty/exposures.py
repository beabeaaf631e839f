"""How often a group of rows is seen once some rows are shown more often, and how fast its loss falls.

Budgets are equal steps unless said: a row that is shown more often then takes the place of others. A group that is seen
m times as often is, as far as groups neither help nor disturb each other, as far along its own curve of losses as m
times the steps would have brought it; what repetition costs comes on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from curate.types import Float64Array, IntArray

GAIN = 2.0
"""How many times as often hard rows are to be seen at equal steps, for the factor that copies would need."""


def multiples(extra: Mapping[str, float], extra_of_all: float) -> dict[str, float]:
    """m of groups whose rows have `extra` copies on average, where all rows have `extra_of_all`."""
    return {group: (1 + copies) / (1 + extra_of_all) for group, copies in extra.items()}


def of_copied(share: float, factor: float) -> tuple[float, float]:
    """(m of the copied rows, m of all others) where a `share` of the rows is shown `factor` times."""
    found = multiples({"copied": factor - 1, "others": 0.0}, (factor - 1) * share)
    return found["copied"], found["others"]


def effective(share: float, factor: float) -> float:
    """`effective_share` where a `share` of the rows is shown `factor` times and every other once."""
    return (1 + (factor - 1) * share) ** 2 / (1 + (factor**2 - 1) * share)


def effective_share(counts: npt.ArrayLike) -> float:
    """Kish's effective rows over the rows, (sum c)^2 / (n sum c^2), of rows shown c times: (n,), not all 0.

    Kish, Survey Sampling (1965).
    """
    c = np.asarray(counts, np.float64)
    return float(c.sum() ** 2 / (len(c) * (c**2).sum()))


def factor_for(gain: float, share: float) -> int | None:
    """Least whole number of times to show a `share` of the rows for m >= `gain`; None where none is enough.

    However often they are shown, m stays below 1 / share.
    """
    if gain * share >= 1:
        return None
    exact = gain * (1 - share) / (1 - gain * share)
    return max(1, math.ceil(exact - 1e-9))  # a whole number is not missed by the last digit


def last_e_fold(steps: npt.ArrayLike) -> IntArray:
    """Positions of those of the ascending steps (K,) in the last e-fold, or of the last two; never of step 0."""
    at = np.asarray(steps, np.float64)
    late = np.flatnonzero(at >= at.max(initial=1.0) / np.e)
    return late if len(late) > 1 else np.flatnonzero(at > 0)[-2:]


def fall_per_e_fold(steps: npt.ArrayLike, losses: npt.ArrayLike) -> Float64Array:
    """Fall of losses (..., K) per e-fold of steps (K,): minus the slope over their logarithm, of two steps at least."""
    at, values = np.log(np.asarray(steps, np.float64)), np.asarray(losses, np.float64)
    centered = at - at.mean()
    return np.asarray(-(values @ centered) / (centered @ centered))


def read_curve(steps: Sequence[float], losses: Sequence[float], step: float) -> float:
    """Loss after `step` steps: a line in logarithms between those measured, later the slope of the last doubling."""
    at, logs = np.log(steps), np.log(np.maximum(losses, 1e-9))
    if np.log(step) <= at[-1]:
        return float(np.exp(np.interp(np.log(step), at, logs)))
    back = np.interp(at[-1] - np.log(2), at, logs)
    return float(np.exp(logs[-1] + (logs[-1] - back) / np.log(2) * (np.log(step) - at[-1])))
