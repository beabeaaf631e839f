"""Held-out losses of hard and other rows along a budget, and what they foretell of showing the hard ones more often.

The exposures of both at equal steps foretell the change of the loss on the mixture of the data,

    h [L_hard(c T m_hard) - L_hard(c T)] + (1 - h) [L_other(c T m_other) - L_other(c T)]

relative to h L_hard(c T) + (1 - h) L_other(c T), for a share h of hard rows, T steps, and the m of `of_copied`. The
clock c allows for curves of a model that learns slower than the target. What repetition costs, and that wrong rows
teach what is wrong, is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.difficulty.exposures import fall_per_e_fold, last_e_fold, of_copied, read_curve
from curate.difficulty.halves import ordered_by_hash
from curate.seeds import derive_seed
from curate.types import BoolArray, Float64Array, FloatArray, IntArray

HELD_OUT = 4  # one row of so many is held out
FACTORS = tuple(range(2, 11))  # how many times hard rows may be shown
LEAST_ROWS = 10  # of either kind, for a curve
INTERVAL = 0.95
RESAMPLES = 200


def quarter(ids: Sequence[str], groups: npt.ArrayLike, hard: npt.ArrayLike) -> BoolArray:
    """(n,) bool, a quarter of n rows to be held out: of the hard ones and of the others as near as groups allow.

    groups: (n,) labels of rows that must not be divided. By hashes of ids, so that the order of rows does not matter.
    A group counts to the kind that its first row by hash is of; one of more than a quarter of its kind is not held out.
    """
    order = ordered_by_hash(ids, "quarter")
    is_hard, group = np.asarray(hard, bool), np.unique(np.asarray(groups), return_inverse=True)[1]
    heads = order[np.sort(np.unique(group[order], return_index=True)[1])]  # (g,) in the order of their hashes
    sizes = np.bincount(group)[group[heads]]
    chosen = np.zeros(len(sizes), np.bool_)  # by number of the group
    for kind in (True, False):
        own = is_hard[heads] == kind
        left = int(sizes[own].sum()) // HELD_OUT
        for head, size in zip(heads[own].tolist(), sizes[own].tolist(), strict=True):
            if size <= left:
                chosen[group[head]] = True
                left -= size
    return chosen[group]


@dataclass(frozen=True)
class HeldOutCurves:
    """Losses in nats per token of m rows, at K steps, of a model that never saw them.

    steps: (K,) ascending. losses: (m, K). hard: (m,) bool. hard_share: hard rows over scored rows, of all the data.
    clock: how many of these steps one step of the target is worth. of: "proxy" or "target", whose curves they are.
    length: steps of the proxy that told hard rows; None = not known.
    """

    steps: IntArray
    losses: FloatArray
    hard: BoolArray
    hard_share: float
    clock: float = 1.0
    of: str = "proxy"
    length: int | None = None

    @property
    def told(self) -> bool:
        """Whether there are rows enough of both kinds."""
        return min(int(self.hard.sum()), int((~self.hard).sum())) >= LEAST_ROWS

    def mean(self, hard: bool) -> Float64Array:
        """(K,) mean loss of the rows of a kind."""
        return np.asarray(self.losses[self.hard == hard].mean(axis=0, dtype=np.float64))

    def resampled(self, count: int, seed: int) -> tuple[Float64Array, Float64Array]:
        """(count, K) mean losses each of hard rows and of the others, drawn anew with replacement."""
        rng = np.random.default_rng(derive_seed(seed, "held-out curves"))
        parts = []
        for kind in (True, False):
            rows = self.losses[self.hard == kind].astype(np.float64)  # (r, K)
            drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), count)  # (count, r)
            parts.append(drawn @ rows / len(rows))
        return parts[0], parts[1]


@dataclass(frozen=True)
class Prediction:
    """What showing hard rows `times` times is foretold to change.

    change, low, high: of the loss on the mixture, relative to it (negative = less), with a 95 % bootstrap interval over
        rows. hard, other: how many times as often hard rows and all others are seen at equal steps.
    """

    times: int
    change: float
    low: float
    high: float
    hard: float
    other: float


def predicted_change(
    steps: Sequence[float], hard: Sequence[float], other: Sequence[float], share: float, at: float, times: float
) -> float:
    """Relative change of the loss on the mixture after `at` steps; see the top of this module.

    hard, other: (K,) losses at `steps`. share: of hard rows.
    """
    m_hard, m_other = of_copied(share, times)
    now = share * read_curve(steps, hard, at) + (1 - share) * read_curve(steps, other, at)
    then = share * read_curve(steps, hard, at * m_hard) + (1 - share) * read_curve(steps, other, at * m_other)
    return then / now - 1


def predictions(curves: HeldOutCurves, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[Prediction, ...]:
    """For every number of `FACTORS`, at the last step."""
    if not curves.told:
        return ()
    steps, share = curves.steps.tolist(), curves.hard_share
    at = steps[-1] * curves.clock
    hard, other = curves.resampled(resamples, seed)
    tails = ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2)
    found = []
    for times in FACTORS:
        change = predicted_change(steps, curves.mean(True).tolist(), curves.mean(False).tolist(), share, at, times)
        drawn = [
            predicted_change(steps, a, b, share, at, times) for a, b in zip(hard.tolist(), other.tolist(), strict=True)
        ]
        low, high = np.quantile(drawn, tails).tolist()
        found.append(Prediction(times, change, low, high, *of_copied(share, times)))
    return tuple(found)


def falls(
    curves: HeldOutCurves, hard: bool, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Fall of the mean loss of a kind per e-fold of steps, over the last e-fold, with its 95 % interval."""
    columns = last_e_fold(curves.steps)
    steps = curves.steps[columns]
    drawn = fall_per_e_fold(steps, curves.resampled(resamples, seed)[0 if hard else 1][:, columns])
    low, high = np.quantile(drawn, ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2)).tolist()
    return float(fall_per_e_fold(steps, curves.mean(hard)[columns])), low, high


def still_hard(curves: HeldOutCurves) -> float:
    """Of as many held-out rows as are hard, those of highest loss at the end of the curves: the share that is hard.

    At random it is the hard share; 1 where the rows that come last are those that were called hard.
    """
    count = int(curves.hard.sum())
    last = np.argsort(-curves.losses[:, -1], kind="stable")[:count]
    return float(curves.hard[last].mean()) if count else 0.0


def described(curves: HeldOutCurves) -> dict[str, Any]:
    """The curves as plain JSON types: steps, and mean losses of both kinds."""
    known = curves.told
    return {
        "of": curves.of,
        "clock": curves.clock,
        "steps": curves.steps.tolist(),
        "hard_rows": int(curves.hard.sum()),
        "other_rows": int((~curves.hard).sum()),
        "hard": [round(each, 5) for each in curves.mean(True).tolist()] if known else None,
        "other": [round(each, 5) for each in curves.mean(False).tolist()] if known else None,
    }
