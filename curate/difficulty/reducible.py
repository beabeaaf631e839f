"""Which rows can be learned from the others, and how many of the hard rows are wrong, from held-out losses.

A row's gain is its loss under a model that never saw it and stopped early, less the loss under that model when it is
at its best. Rows that follow from the others gain; rows with a wrong completion do not, and neither do rows
beyond the model. What a wrong row gains here is measured: null rows have the completion of another row
(`curate.difficulty.halves`). Nothing in this module knows what kind of model the losses come from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
# Where right rows gain as little as wrong ones, hard rows are rarer than null rows at the lowest gains, and less so at
# higher ones. A wrong share that rises by more than this from a low quantile to LEVEL, by the lower bound, is no share.
LOW_LEVEL = 0.25
MOST_RISE = 0.1
_EARLIER = 4
INTERVAL = 0.95
# Of the hard rows: where fewer are wrong, leaving out irreducible ones costs more than it saves.
MOST_WRONG = 0.05
RESAMPLES = 1000

Verdict = Literal["estimated", "cannot tell", "given"]


@dataclass(frozen=True)
class Gains:
    """Gains in nats per token of n rows and m null rows.

    best: checkpoint at which each of the two models is at its best on rows it never saw; since: the earlier one that
    gains are counted from, the same where there is none. short: (n,) and null_short: (m,) losses at that one.
    """

    rows: Float64Array
    null: Float64Array
    short: Float64Array
    null_short: Float64Array
    best: tuple[int, int]
    since: tuple[int, int]

    def take(self, rows: IntArray) -> Gains:
        """Of the given rows, with all null rows."""
        return replace(self, rows=self.rows[rows], short=self.short[rows])


def gains(losses: npt.ArrayLike, null: npt.ArrayLike, halves: Halves, short: int = 0) -> Gains:
    """From losses (n, K) and (m, K) in nats per token at K checkpoints, each under the model that never saw the row.

    short: checkpoint at the length of the proxy. The best checkpoint of a model is that of the lowest mean loss of the
    rows that it measures, without the null rows. It sees its rows twice as often as the proxy, and where it is at its
    best no later than at `short`, gains are counted from 4 checkpoints before that (a quarter of the steps on a grid of
    ratio sqrt 2), or from the first. NaN where a row has no loss.
    """
    rows, wrong = np.asarray(losses, float), np.asarray(null, float)
    if rows.ndim != 2 or len(rows) != len(halves.half) or wrong.shape != (len(halves.null), rows.shape[1]):
        raise InputError(
            f"losses have shape {rows.shape} and {wrong.shape} for {len(halves.half)} rows and {len(halves.null)} null "
            "rows; give one number per row and checkpoint"
        )
    gained, null_gained = np.full(len(rows), np.nan), np.full(len(wrong), np.nan)
    first, null_first = np.full(len(rows), np.nan), np.full(len(wrong), np.nan)
    best, since = [0, 0], [0, 0]
    for half in (0, 1):
        measured, nulls = halves.measured_by(half)
        own = rows[measured]
        known = np.isfinite(own).all(axis=1)
        if known.any():
            best[half] = int(own[known].mean(axis=0).argmin())
        since[half] = short if best[half] > short else max(best[half] - _EARLIER, 0)
        first[measured], null_first[nulls] = own[:, since[half]], wrong[nulls, since[half]]
        gained[measured] = own[:, since[half]] - own[:, best[half]]
        null_gained[nulls] = wrong[nulls, since[half]] - wrong[nulls, best[half]]
    return Gains(gained, null_gained, first, null_first, (best[0], best[1]), (since[0], since[1]))


@dataclass(frozen=True)
class Reducible:
    """What gains say about n rows.

    cut: nats per token, 0 or more; reducible: (n,) bool, rows that gain more. shares: of hard, easy and null rows
    above the cut. rows: how many of each there are; null rows count where their loss is that of hard rows.
    wrong_share: estimated share of wrong (or unlearnable) rows among the hard ones, with a bootstrap interval; None
    where the verdict is "cannot tell". reason: of the verdict, one sentence. "given": the rows were named by the user,
    and nothing was measured.
    """

    cut: float
    reducible: BoolArray
    shares: dict[str, float]
    rows: dict[str, int]
    verdict: Verdict
    reason: str
    wrong_share: float | None
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """All but the rows, as plain JSON types."""
        cut = self.cut if np.isfinite(self.cut) else None
        return {name: value for name, value in vars(self).items() if name != "reducible"} | {"cut": cut}

    @property
    def many_wrong(self) -> bool:
        """Whether by the lower bound more than 5 % of the hard rows are wrong, or beyond what the rows teach."""
        return self.interval is not None and self.interval[0] > MOST_WRONG


def given_rows(reducible: npt.ArrayLike, hard: npt.ArrayLike) -> Reducible:
    """Rows that somebody else found to be reducible, (n,) bool; hard: (n,) bool."""
    chosen, is_hard = np.asarray(reducible, bool), np.asarray(hard, bool)
    groups = {"hard": chosen[is_hard], "easy": chosen[~is_hard]}
    shares = {name: float(each.mean()) if len(each) else 0.0 for name, each in groups.items()}
    counts = {name: len(each) for name, each in groups.items()}
    return Reducible(0.0, chosen, shares, counts, "given", "given with the scores", None, None)


def reducible_rows(gained: Gains, hard: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Reducible:
    """Cut, shares and estimated wrong share of the hard rows (n,) bool; all others with a gain count as easy.

    A wrong row is hard only if its loss is high, so the null rows that stand for wrong ones are those whose first loss
    is at least that of as many rows as are hard. The cut is their quantile 0.9, or 0 where that is less. The wrong
    share is the share of hard rows at or below their quantile 0.75, divided by 0.75: right only as far as right rows
    seldom gain as little. The interval is by bootstrap over hard and null rows, the quantile included.

    "cannot tell" where a group has fewer than 30 rows; where hard and null rows overlap (hard rows are above the cut no
    more than 0.05 more often, by the lower bound of the difference); and where the wrong share would be smaller by 0.1,
    by the lower bound, at the quantile 0.25: then right rows do gain as little.
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

    def answer(reason: str, share: float | None = None, interval: tuple[float, float] | None = None) -> Reducible:
        verdict: Verdict = "cannot tell" if interval is None else "estimated"
        return Reducible(cut, chosen, shares, counts, verdict, reason, share, interval)

    if small:
        return answer(f"too few rows to compare: {counts[small[0]]} {small[0]} rows, {LEAST_ROWS} are needed")
    if gained.best == gained.since:
        return answer("rows that were not trained on gain nothing")
    rng = np.random.default_rng(derive_seed(seed, "reducible"))
    again, rise, excess = np.empty(resamples), np.empty(resamples), np.empty(resamples)
    for k in range(resamples):
        some, nulls = rng.choice(hard_gain, len(hard_gain)), rng.choice(null_gain, len(null_gain))
        low, again[k] = _wrong_shares(some, nulls)
        rise[k] = again[k] - low
        excess[k] = (some > cut).mean() - (nulls > cut).mean()
    tail = (1 - INTERVAL) / 2
    if np.quantile(excess, tail) <= LEAST_EXCESS:
        return answer(
            f"hard rows gain as null rows do: {shares['hard']:.0%} and {shares['null']:.0%} are above the cut"
        )
    low, share = _wrong_shares(hard_gain, null_gain)
    if np.quantile(rise, tail) > MOST_RISE:
        return answer(
            f"right rows gain as little as wrong ones: {share:.0%} of the hard rows would be wrong by most null rows, "
            f"{low:.0%} by those that gain least"
        )
    least, most = (float(x) for x in np.quantile(again, (tail, 1 - tail)))
    return answer("hard rows gain more than null rows", share, (least, most))


def _as_hard(gained: Gains, hard: BoolArray, known: BoolArray) -> IntArray:
    """Null rows whose first loss is at least that of as many rows as are hard."""
    finite = np.isfinite(gained.null)
    if not hard.any():
        return np.flatnonzero(finite)
    least = np.quantile(gained.short[known], 1 - hard.sum() / known.sum())
    return np.flatnonzero(finite & (np.nan_to_num(gained.null_short, nan=-np.inf) >= least))


def _wrong_shares(hard: Float64Array, null: Float64Array) -> tuple[float, float]:
    """Wrong share of the hard rows by the null rows' quantiles LOW_LEVEL and LEVEL, in 0..1."""
    low, high = (
        float((hard <= level).mean() / (null <= level).mean()) for level in np.quantile(null, (LOW_LEVEL, LEVEL))
    )
    return min(low, 1.0), min(high, 1.0)
