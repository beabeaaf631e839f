"""Which rows can be learned from the others, and how many of the hard rows are wrong, from held-out losses.

A row's gain is its loss under a model that never saw it and stopped early, less the loss under that model later, when
it is at its best. Rows that follow from the others gain; rows with a wrong completion do not, and neither do rows
beyond the model. What a wrong row gains here is measured: null rows have the completion of another row
(`curate.difficulty.halves`). Nothing in this module knows what kind of model the losses come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.difficulty.halves import Halves
from curate.errors import InputError
from curate.seeds import derive_seed
from curate.types import BoolArray, Float64Array, IntArray

CUT = 0.9  # share of the null rows at or below the cut: what a wrong row passes by chance is the rest
# Share of the null rows at or below which rows are counted for the estimate: most of the wrong rows, and few of the
# right ones. The least over several such levels would be biased: its intervals held the truth in 70 % of simulations.
LEVEL = 0.75
LEAST_ROWS = 30
# Above the cut there must be this share of the hard rows more than of the null rows, by the lower bound.
LEAST_EXCESS = 0.05
# Easy rows are nearly all right: where the estimate says otherwise, losses do not tell wrong rows from right ones.
MOST_EASY = 0.25
INTERVAL = 0.95
RESAMPLES = 1000

Verdict = Literal["estimated", "cannot tell"]


@dataclass(frozen=True)
class Gains:
    """Gains in nats per token of n rows and m null rows.

    best: checkpoint at which each of the two models is at its best on rows it never saw; 0 = the first, where nothing
    is gained any more. short: (n,) and null_short: (m,) losses at the first checkpoint.
    """

    rows: Float64Array
    null: Float64Array
    short: Float64Array
    null_short: Float64Array
    best: tuple[int, int]


def gains(losses: npt.ArrayLike, null: npt.ArrayLike, halves: Halves) -> Gains:
    """From losses (n, K) and (m, K) in nats per token at K checkpoints, each under the model that never saw the row.

    The best checkpoint of a model is that of the lowest mean loss of the rows that it measures, without the null rows.
    NaN where a row has no loss.
    """
    rows, wrong = np.asarray(losses, float), np.asarray(null, float)
    if rows.ndim != 2 or len(rows) != len(halves.half) or wrong.shape != (len(halves.null), rows.shape[1]):
        raise InputError(
            f"losses have shape {rows.shape} and {wrong.shape} for {len(halves.half)} rows and {len(halves.null)} null "
            "rows; give one number per row and checkpoint"
        )
    gained, null_gained = np.full(len(rows), np.nan), np.full(len(wrong), np.nan)
    best = [0, 0]
    for half in (0, 1):
        measured, nulls = halves.measured_by(half)
        own = rows[measured]
        known = np.isfinite(own).all(axis=1)
        if known.any():
            best[half] = int(own[known].mean(axis=0).argmin())
        gained[measured] = own[:, 0] - own[:, best[half]]
        null_gained[nulls] = wrong[nulls, 0] - wrong[nulls, best[half]]
    return Gains(gained, null_gained, rows[:, 0], wrong[:, 0], (best[0], best[1]))


@dataclass(frozen=True)
class Reducible:
    """What gains say about n rows.

    cut: nats per token, 0 or more; reducible: (n,) bool, rows that gain more. shares: of hard, easy and null rows
    above the cut. rows: how many of each there are; null rows count where their loss is that of hard rows.
    wrong_share: estimated share of wrong (or unlearnable) rows among the hard ones, with a bootstrap interval; None
    where the verdict is "cannot tell". easy_wrong_share: the same of the easy rows, which shows what the estimate is
    worth. reason: of the verdict, one sentence.
    """

    cut: float
    reducible: BoolArray
    shares: dict[str, float]
    rows: dict[str, int]
    verdict: Verdict
    reason: str
    wrong_share: float | None
    interval: tuple[float, float] | None
    easy_wrong_share: float

    def to_json(self) -> dict[str, Any]:
        """All but the rows, as plain JSON types."""
        return {name: value for name, value in vars(self).items() if name != "reducible"}


def reducible_rows(gained: Gains, hard: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Reducible:
    """Cut, shares and estimated wrong share of the hard rows (n,) bool; all others with a gain count as easy.

    A wrong row is hard only if its loss is high, so the null rows that stand for wrong ones are those whose first loss
    is at least that of as many rows as are hard. The cut is their quantile 0.9, or 0 where that is less. With F the
    share of rows at or below their quantile 0.75, the wrong share is (F_hard - F_easy) / (F_null - F_easy), as though
    easy rows showed how often right ones gain as little. The interval is by bootstrap over the rows of each group, the
    quantile included.

    "cannot tell" where a group has fewer than 30 rows, where hard and null rows overlap (hard rows are above the cut
    no more than 0.05 more often, by the lower bound of the difference), or where a quarter of the easy rows would be
    wrong.
    """
    is_hard, value = np.asarray(hard, bool), gained.rows
    known = np.isfinite(value)
    hard_gain, easy_gain = value[known & is_hard], value[known & ~is_hard]
    null_gain = gained.null[_as_hard(gained, is_hard & known, known)]
    counts = {"hard": len(hard_gain), "easy": len(easy_gain), "null": len(null_gain)}
    small = [name for name, count in counts.items() if count < LEAST_ROWS]
    cut = max(float(np.quantile(null_gain, CUT)), 0.0) if len(null_gain) else np.inf
    chosen = known & (np.nan_to_num(value, nan=-np.inf) > cut)
    groups = {"hard": hard_gain, "easy": easy_gain, "null": null_gain}
    shares = {name: float((each > cut).mean()) if len(each) else 0.0 for name, each in groups.items()}

    def answer(
        reason: str, estimate: Float64Array | None = None, interval: tuple[float, float] | None = None
    ) -> Reducible:
        verdict: Verdict = "cannot tell" if interval is None else "estimated"
        share = None if interval is None or estimate is None else float(estimate[0])
        easy = 1.0 if estimate is None else float(estimate[1])
        return Reducible(cut, chosen, shares, counts, verdict, reason, share, interval, easy)

    if small:
        return answer(f"too few rows to compare: {counts[small[0]]} {small[0]} rows, {LEAST_ROWS} are needed")
    if gained.best == (0, 0):
        return answer("rows that were not trained on gain nothing after the first checkpoint")
    estimate = _estimates(hard_gain, easy_gain, null_gain)
    rng = np.random.default_rng(derive_seed(seed, "reducible"))
    again = np.empty((resamples, 2))
    excess = np.empty(resamples)
    for k in range(resamples):
        drawn = [rng.choice(each, len(each)) for each in (hard_gain, easy_gain, null_gain)]
        again[k] = _estimates(*drawn)
        excess[k] = (drawn[0] > cut).mean() - (drawn[2] > cut).mean()
    tail = (1 - INTERVAL) / 2
    if np.quantile(excess, tail) <= LEAST_EXCESS:
        return answer(
            f"hard rows gain as null rows do: {shares['hard']:.0%} and {shares['null']:.0%} are above the cut",
            estimate,
        )
    if estimate[1] > MOST_EASY:
        return answer(
            f"{estimate[1]:.0%} of the easy rows would be wrong as well: gains do not tell wrong rows from right ones",
            estimate,
        )
    low, high = (float(x) for x in np.quantile(again[:, 0], (tail, 1 - tail)))
    return answer("hard rows gain more than null rows", estimate, (low, high))


def _as_hard(gained: Gains, hard: BoolArray, known: BoolArray) -> IntArray:
    """Null rows whose first loss is at least that of as many rows as are hard."""
    finite = np.isfinite(gained.null)
    if not hard.any():
        return np.flatnonzero(finite)
    least = np.quantile(gained.short[known], 1 - hard.sum() / known.sum())
    return np.flatnonzero(finite & (np.nan_to_num(gained.null_short, nan=-np.inf) >= least))


def _estimates(hard: Float64Array, easy: Float64Array, null: Float64Array) -> Float64Array:
    """(2,) wrong share of the hard rows, and of the easy ones without a correction by themselves; in 0..1."""
    level = np.quantile(null, LEVEL)
    of_hard, of_easy, of_null = (float((each <= level).mean()) for each in (hard, easy, null))
    corrected = (of_hard - of_easy) / (of_null - of_easy) if of_null > of_easy else 1.0
    return np.clip([corrected, of_easy / of_null], 0, 1)
