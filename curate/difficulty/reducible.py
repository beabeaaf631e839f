"""Estimate from held-out losses which rows can be learned from the others, and the share of wrong hard rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.difficulty.halves import Halves
from curate.errors import InputError
from curate.seeds import derive_seed
from curate.types import BoolArray, Float64Array, IntArray

CUT = 0.9  # quantile of the null rows' gains that is the cut: a wrong row exceeds it with probability 0.1
# Quantile of the null rows' gains for the estimate: most wrong rows are below it, and few right ones. The minimum over
# several quantiles would be biased: its intervals covered the truth in 70 % of simulations.
LEVEL = 0.75
LEAST_ROWS = 30
# The share of hard rows above the cut must exceed that of null rows by this, by the lower bound.
LEAST_EXCESS = 0.05
# If right rows gain as little as wrong ones, the estimated wrong share is lower at low quantiles. One that rises by
# more than MOST_RISE from LOW_LEVEL to LEVEL, by the lower bound, is rejected.
LOW_LEVEL = 0.25
MOST_RISE = 0.1
_EARLIER = 4
INTERVAL = 0.95
# Share of the hard rows: if fewer are wrong, dropping irreducible ones costs more than it saves.
MOST_WRONG = 0.05
RESAMPLES = 1000

Verdict = Literal["estimated", "cannot tell", "given"]


@dataclass(frozen=True)
class Gains:
    """Gains in nats per token of n rows and m null rows.

    rows: (n,). null: (m,). best: checkpoint index of the lowest held-out loss of each of the two models. since: earlier
    checkpoint from which gains are measured, equal to best if there is none. short: (n,) and null_short: (m,) losses at
    `since`.
    """

    rows: Float64Array
    null: Float64Array
    short: Float64Array
    null_short: Float64Array
    best: tuple[int, int]
    since: tuple[int, int]

    def take(self, rows: IntArray) -> Gains:
        """The gains of the given rows, with all null rows."""
        return replace(self, rows=self.rows[rows], short=self.short[rows])


def gains(losses: npt.ArrayLike, null: npt.ArrayLike, halves: Halves, short: int = 0) -> Gains:
    """Gains from losses (n, K) of rows and `null` (m, K) of null rows in nats per token, under the held-out model.

    short: index of the checkpoint at the length of the proxy. A model's best checkpoint has the lowest mean loss of the
    rows that it measures, without null rows. It sees its rows twice as often as the proxy; if its best checkpoint is
    not after `short`, gains are measured from 4 checkpoints earlier (a quarter of the steps on a grid of ratio
    sqrt 2), or from the first. NaN for rows without a loss.
    """
    rows, wrong = np.asarray(losses, float), np.asarray(null, float)
    if rows.ndim != 2 or len(rows) != len(halves.half) or wrong.shape != (len(halves.null), rows.shape[1]):
        raise InputError(
            f"losses have shape {rows.shape} and {wrong.shape} for {len(halves.half)} rows and {len(halves.null)} null "
            "rows; give one number per row and checkpoint"
        )
    gained, null_gained = np.full(len(rows), np.nan), np.full(len(wrong), np.nan)  # (n,) and (m,)
    first, null_first = np.full(len(rows), np.nan), np.full(len(wrong), np.nan)  # (n,) and (m,)
    best, since = [0, 0], [0, 0]
    for half in (0, 1):
        measured, nulls = halves.measured_by(half)
        losses_measured = rows[measured]
        has_losses = np.isfinite(losses_measured).all(axis=1)
        if has_losses.any():
            best[half] = int(losses_measured[has_losses].mean(axis=0).argmin())
        since[half] = short if best[half] > short else max(best[half] - _EARLIER, 0)
        first[measured], null_first[nulls] = losses_measured[:, since[half]], wrong[nulls, since[half]]
        gained[measured] = losses_measured[:, since[half]] - losses_measured[:, best[half]]
        null_gained[nulls] = wrong[nulls, since[half]] - wrong[nulls, best[half]]
    return Gains(gained, null_gained, first, null_first, (best[0], best[1]), (since[0], since[1]))


@dataclass(frozen=True)
class Reducible:
    """Reducible rows among n rows, and the estimated share of wrong ones.

    cut: nats per token, 0 or more. reducible: (n,) bool, rows that gain more than the cut. shares: of hard, easy and
    null rows above the cut. rows: number of each; only null rows with a loss like that of hard rows count.
    wrong_share, interval: estimated share of wrong (or unlearnable) rows among the hard ones, with a bootstrap
    interval; None if the verdict is "cannot tell". The verdict "given" means that the user provided the rows. reason:
    of the verdict, one sentence.
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
        """Everything except the array `reducible`, as plain JSON types."""
        cut = self.cut if np.isfinite(self.cut) else None
        return {name: value for name, value in vars(self).items() if name != "reducible"} | {"cut": cut}

    @property
    def many_wrong(self) -> bool:
        """Whether more than 5 % of the hard rows are wrong or unlearnable, by the lower bound of the interval."""
        return self.interval is not None and self.interval[0] > MOST_WRONG


def given_rows(reducible: npt.ArrayLike, hard: npt.ArrayLike) -> Reducible:
    """The result for reducible rows (n,) bool that the user provides. hard: (n,) bool."""
    chosen, is_hard = np.asarray(reducible, bool), np.asarray(hard, bool)
    groups = {"hard": chosen[is_hard], "easy": chosen[~is_hard]}
    shares = {
        name: float(chosen_of_group.mean()) if len(chosen_of_group) else 0.0 for name, chosen_of_group in groups.items()
    }
    counts = {name: len(chosen_of_group) for name, chosen_of_group in groups.items()}
    return Reducible(0.0, chosen, shares, counts, "given", "given with the scores", None, None)


def reducible_rows(gained: Gains, hard: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Reducible:
    """Cut, shares and estimated wrong share. hard: (n,) bool; all other rows with a gain count as easy.

    A row's gain is its loss under an early checkpoint of a model that was not trained on it, minus its loss under the
    best checkpoint. Rows that follow from the others gain; rows with a wrong completion do not, and neither do rows
    beyond the model. Null rows, with the completion of another row (`curate.difficulty.halves`), measure the gain of
    wrong rows.

    A wrong row is hard only if its loss is high, so wrong rows are represented by the null rows whose first loss is
    within the top share of hard rows. The cut is the 0.9 quantile of their gains, at least 0. The wrong share is the
    share of hard rows at or below their 0.75 quantile, divided by 0.75, which assumes that right rows rarely gain so
    little. The interval is a bootstrap over hard and null rows, including the quantile.

    The verdict is "cannot tell" if a group has fewer than 30 rows; if hard and null rows overlap (the share of hard
    rows above the cut exceeds that of null rows by no more than 0.05, by the lower bound); and if the wrong share is
    smaller by 0.1 at the 0.25 quantile, by the lower bound, since right rows then gain as little.
    """
    is_hard, value = np.asarray(hard, bool), gained.rows  # (n,) and (n,)
    has_gain = np.isfinite(value)  # (n,)
    hard_gain, easy_gain = value[has_gain & is_hard], value[has_gain & ~is_hard]
    null_gain = gained.null[_as_hard(gained, is_hard & has_gain, has_gain)]
    counts = {"hard": len(hard_gain), "easy": len(easy_gain), "null": len(null_gain)}
    small = [name for name, count in counts.items() if count < LEAST_ROWS]
    cut = max(float(np.quantile(null_gain, CUT)), 0.0) if len(null_gain) else np.inf
    chosen = has_gain & (np.nan_to_num(value, nan=-np.inf) > cut)  # (n,)
    groups = {"hard": hard_gain, "easy": easy_gain, "null": null_gain}
    shares = {
        name: float((group_gains > cut).mean()) if len(group_gains) else 0.0 for name, group_gains in groups.items()
    }

    def answer(reason: str, share: float | None = None, interval: tuple[float, float] | None = None) -> Reducible:
        verdict: Verdict = "cannot tell" if interval is None else "estimated"
        return Reducible(cut, chosen, shares, counts, verdict, reason, share, interval)

    if small:
        return answer(f"too few rows to compare: {counts[small[0]]} {small[0]} rows, {LEAST_ROWS} are needed")
    if gained.best == gained.since:
        return answer("rows that were not trained on gain nothing")
    rng = np.random.default_rng(derive_seed(seed, "reducible"))
    again, rise, excess = np.empty(resamples), np.empty(resamples), np.empty(resamples)  # (resamples,) each
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
    """Indices of null rows whose first loss is above the quantile of first losses that the share of hard rows sets."""
    finite = np.isfinite(gained.null)  # (m,)
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
