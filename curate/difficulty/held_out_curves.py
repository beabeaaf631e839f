"""Held-out loss curves of hard and other rows, and predictions from them of the effect of copying hard rows."""

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

HELD_OUT = 4  # one row in 4 is held out
FACTORS = tuple(range(2, 11))  # candidate numbers of occurrences of hard rows
LEAST_ROWS = 10  # held-out rows of each kind that a curve needs
INTERVAL = 0.95
RESAMPLES = 200


def quarter(ids: Sequence[str], groups: npt.ArrayLike, hard: npt.ArrayLike) -> BoolArray:
    """(n,) bool: a quarter of the hard rows and of the other rows to hold out, as closely as groups allow.

    groups: (n,) labels of rows that must stay together. Chosen by hashes of ids, independent of the order of rows. A
    group has the kind of its first row by hash; one with more than a quarter of the rows of its kind is not held out.
    """
    order = ordered_by_hash(ids, "quarter")
    is_hard, group = np.asarray(hard, bool), np.unique(np.asarray(groups), return_inverse=True)[1]
    heads = order[np.sort(np.unique(group[order], return_index=True)[1])]  # (g,) in the order of their hashes
    sizes = np.bincount(group)[group[heads]]  # (g,) rows of each group
    chosen = np.zeros(len(sizes), np.bool_)  # (g,) by number of the group
    for kind in (True, False):
        of_kind = is_hard[heads] == kind
        room = int(sizes[of_kind].sum()) // HELD_OUT
        for head, size in zip(heads[of_kind].tolist(), sizes[of_kind].tolist(), strict=True):
            if size <= room:
                chosen[group[head]] = True
                room -= size
    return chosen[group]


@dataclass(frozen=True)
class HeldOutCurves:
    """Losses in nats per token of m held-out rows at K steps.

    steps: (K,) ascending. losses: (m, K). hard: (m,) bool. hard_share: hard rows over scored rows, in all the data.
    clock: steps of these curves that correspond to one step of the target. of: model of the curves, "proxy" or
    "target". length: steps of the proxy that determined hard rows; None = not known.
    """

    steps: IntArray
    losses: FloatArray
    hard: BoolArray
    hard_share: float
    clock: float = 1.0
    of: str = "proxy"
    length: int | None = None

    @property
    def sufficient(self) -> bool:
        """Whether there are enough rows of both kinds for curves."""
        return min(int(self.hard.sum()), int((~self.hard).sum())) >= LEAST_ROWS

    def mean(self, hard: bool) -> Float64Array:
        """(K,) mean loss of hard rows, or of the others."""
        return np.asarray(self.losses[self.hard == hard].mean(axis=0, dtype=np.float64))

    def resampled(self, count: int, seed: int) -> tuple[Float64Array, Float64Array]:
        """Bootstrap mean losses of hard rows and of the others, (count, K) each."""
        rng = np.random.default_rng(derive_seed(seed, "held-out curves"))
        parts = []
        for kind in (True, False):
            rows = self.losses[self.hard == kind].astype(np.float64)  # (r, K)
            weights = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), count)  # (count, r)
            parts.append(weights @ rows / len(rows))
        return parts[0], parts[1]


@dataclass(frozen=True)
class Prediction:
    """Predicted effect of hard rows that occur `times` times.

    change, low, high: relative change of the loss on the mixture (negative = lower), with a 95 % bootstrap interval
        over rows. hard, other: exposures m of hard rows and of the others at equal steps.
    """

    times: int
    change: float
    low: float
    high: float
    hard: float
    other: float


def predicted_change(
    steps: Sequence[float], hard: Sequence[float], other: Sequence[float], share: float, step: float, times: float
) -> float:
    """Relative change of the loss on the mixture after `step` steps; see the module docstring.

    The exposures of both at equal steps predict the change of the loss on the mixture of the data,

        h [L_hard(c T m_hard) - L_hard(c T)] + (1 - h) [L_other(c T m_other) - L_other(c T)]

    relative to h L_hard(c T) + (1 - h) L_other(c T), for a share h of hard rows, T steps, and the m of `of_copied`. The
    clock c accounts for curves of a model that learns slower than the target. The prediction includes neither the cost
    of repetition nor the harm of wrong rows.

    hard, other: (K,) losses at `steps`. share: of hard rows.
    """
    m_hard, m_other = of_copied(share, times)
    now = share * read_curve(steps, hard, step) + (1 - share) * read_curve(steps, other, step)
    then = share * read_curve(steps, hard, step * m_hard) + (1 - share) * read_curve(steps, other, step * m_other)
    return then / now - 1


def predictions(curves: HeldOutCurves, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[Prediction, ...]:
    """Predictions at the last step for each of `FACTORS`; empty without enough rows of both kinds."""
    if not curves.sufficient:
        return ()
    steps, share = curves.steps.tolist(), curves.hard_share
    step = steps[-1] * curves.clock
    hard, others = curves.resampled(resamples, seed)
    tails = ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2)
    results = []
    for times in FACTORS:
        change = predicted_change(steps, curves.mean(True).tolist(), curves.mean(False).tolist(), share, step, times)
        resampled = [
            predicted_change(steps, a, b, share, step, times)
            for a, b in zip(hard.tolist(), others.tolist(), strict=True)
        ]
        low, high = np.quantile(resampled, tails).tolist()
        results.append(Prediction(times, change, low, high, *of_copied(share, times)))
    return tuple(results)


def falls(curves: HeldOutCurves, hard: bool) -> tuple[float, float, float]:
    """Fall of the mean loss of hard rows (or the others) over the last e-fold of steps, with its 95 % interval."""
    columns = last_e_fold(curves.steps)
    steps = curves.steps[columns]
    resampled = fall_per_e_fold(steps, curves.resampled(RESAMPLES, 0)[0 if hard else 1][:, columns])
    low, high = np.quantile(resampled, ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2)).tolist()
    return float(fall_per_e_fold(steps, curves.mean(hard)[columns])), low, high


def still_hard(curves: HeldOutCurves) -> float:
    """Share of hard rows among the held-out rows with the highest final loss, as many as there are hard rows.

    1 if the rows with the highest final loss are the hard ones; equal to the hard share at random.
    """
    count = int(curves.hard.sum())
    last = np.argsort(-curves.losses[:, -1], kind="stable")[:count]
    return float(curves.hard[last].mean()) if count else 0.0


def described(curves: HeldOutCurves) -> dict[str, Any]:
    """The curves as plain JSON types: steps, and mean losses of both kinds."""
    enough = curves.sufficient
    return {
        "of": curves.of,
        "clock": curves.clock,
        "steps": curves.steps.tolist(),
        "hard_rows": int(curves.hard.sum()),
        "other_rows": int((~curves.hard).sum()),
        "hard": [round(loss, 5) for loss in curves.mean(True).tolist()] if enough else None,
        "other": [round(loss, 5) for loss in curves.mean(False).tolist()] if enough else None,
    }
