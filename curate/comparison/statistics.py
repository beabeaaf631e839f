"""Confidence intervals of paired differences over seeds and examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from curate.comparison.variance import Spread, Tables, Weights, spread_of
from curate.errors import InputError
from curate.types import Float64Array

# Runs of two arms with the same seeds answer the same examples, so every difference d[s, i] belongs to a seed and to an
# example, and both are a sample: other seeds would have trained other models, other examples would have been asked.
# The mean difference thus varies by
#
#     seeds / S + examples / n + rest / (S n)
#
# and an interval over examples alone, or over seeds alone, is too narrow. Two-way mean squares (Scheffé, The Analysis
# of Variance, ch. 7) estimate the parts. The spread of the S seed means holds the first and the last part; what
# examples differ by in every seed adds the second. Three to five seed means say little about their own spread, so the
# interval does not plug it in: it averages over what that spread can be given what was seen (Weerahandi, Generalized
# Confidence Intervals, 1993). With no difference between examples this is Student's t test on the seed means, with no
# spread of seeds the usual paired interval over examples. A percentile bootstrap of seeds and examples (Owen, The
# Pigeonhole Bootstrap, 2007) is too narrow where few seeds matter, see benchmarks/comparison.py, which measures the
# coverage of both.
#
# The relative difference is a ratio of means. Its interval holds the ratios r for which arm - r * baseline is not
# distinguishable from zero (Fieller, 1954), so absolute and relative intervals always agree about zero.

_NODES = 200  # quantiles that represent the distribution of a variance; doubling them moves no interval by 2 %
_OUTER = 24
_ABSOLUTE = np.array([1.0, -1.0])


@dataclass(frozen=True)
class PairedInterval:
    """arm - baseline with its interval; relative = arm / baseline - 1, None if the baseline is too near zero.

    p: two-sided, below 1 - level if and only if the interval excludes zero. seeds, examples: S and n (all sets).
    """

    baseline_mean: float
    arm_mean: float
    difference: float
    low: float
    high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p: float
    seeds: int
    examples: int


@dataclass(frozen=True)
class DetectableEffect:
    """The smallest true difference detected with probability `power`; relative to the baseline's mean."""

    absolute: float
    relative: float | None
    power: float
    seeds: int
    examples: int


def paired_interval(
    arm: Tables,
    baseline: Tables,
    *,
    weights: Weights = None,
    shares: Sequence[float] | None = None,
    discrete: bool = False,
    level: float = 0.95,
) -> PairedInterval:
    """The difference of two arms over the same seeds and examples.

    arm, baseline: (S, n) values, row s of both from the run of the same seed, column i from the same example; or a
        list of such, one per evaluation set, for the pooled difference.
    weights: (n,) weight of each example within its set, or a list (nats per token: its tokens); None = equal.
    shares: weight of each set; None = in proportion to its examples. Sets are taken as given, their examples as drawn.
    discrete: right or wrong. As if one example more were won and one lost in every seed, so that few examples that all
        agree are not certainty, and an arm that changes few of many answers keeps an honest interval.
    With one seed the interval is over examples only: how much seeds differ is then unknown, and the truth less certain.

    InputError: shapes that do not fit, fewer than two examples in a set, values that are not finite, weights that are
    not positive.
    """
    spread = spread_of(arm, baseline, weights, shares, discrete)
    arm_mean, baseline_mean = (float(value) for value in spread.means)
    difference = arm_mean - baseline_mean
    half = _half_width(*spread.parts(_ABSOLUTE), spread, level)
    relative = low = high = None
    if baseline_mean > 0:
        ratio = arm_mean / baseline_mean
        bounds = _ratio_bounds(spread, ratio, level)
        relative = ratio - 1
        low, high = (None, None) if bounds is None else (bounds[0] - 1, bounds[1] - 1)
    return PairedInterval(
        baseline_mean,
        arm_mean,
        difference,
        difference - half,
        difference + half,
        relative,
        low,
        high,
        _p_value(difference, *spread.parts(_ABSOLUTE), spread),
        spread.count,
        spread.n,
    )


def detectable_effect(
    baseline: Tables,
    arm: Tables | None = None,
    *,
    weights: Weights = None,
    shares: Sequence[float] | None = None,
    discrete: bool = False,
    seeds: int | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> DetectableEffect:
    """The smallest true difference that `paired_interval` on the same data detects with probability `power`.

    Without `arm` (before any other arm was run), it is assumed to vary over seeds like the baseline, independently,
    and to gain the same on every example. That is a lower bound where an arm gains on some examples and loses on
    others. seeds: of the planned runs; None = as many as there are. Variances estimated from few runs are themselves
    rough: with three seeds, expect errors of a factor of two.

    InputError: as for paired_interval; and one seed of the baseline alone, which says nothing about seeds.
    """
    spread = spread_of(baseline if arm is None else arm, baseline, weights, shares, discrete)
    if arm is None and spread.count < 2:
        raise InputError(
            "the runs of one seed do not show how much seeds differ; run the baseline with two seeds or more"
        )
    if seeds is not None and seeds < 1 + (spread.count > 1):
        raise InputError(f"seeds={seeds}: give as many as the planned runs have, at least 2")
    if arm is None:
        of_seeds, shared = 2 * float(spread.seeds[1, 1]), spread.floor
    else:
        of_seeds, shared = spread.parts(_ABSOLUTE)
    planned = spread.count if seeds is None or spread.count == 1 else seeds
    design = Spread(spread.means, spread.seeds, spread.examples, spread.floor, planned, spread.n, spread.df)
    effect = _effect_found(of_seeds * spread.count / planned, shared, design, level, power)
    mean = float(spread.means[1])
    return DetectableEffect(effect, effect / mean if mean > 0 else None, power, planned, spread.n)


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm, 1979): below 0.05 if the family as a whole errs in at most 5 %."""
    order = np.argsort(np.asarray(p, float), kind="stable")
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, place in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


@cache
def _possible(count: int, nodes: int = _NODES) -> Float64Array:
    """(nodes,) equally likely factors between a variance estimated from `count` values and the true variance."""
    from scipy.special import chdtri

    if count < 2:
        return np.ones(1)
    factors: Float64Array = (count - 1) / chdtri(count - 1, (np.arange(nodes) + 0.5) / nodes)
    return factors


def _tail(values: npt.ArrayLike, variances: Float64Array, df: int) -> Float64Array:
    """Two-sided p of `values` under a mixture over the last axis of `variances`."""
    from scipy.special import ndtr, stdtr

    t = -np.abs(np.asarray(values)[..., None]) / np.sqrt(np.maximum(variances, 1e-300))
    # From 30 degrees of freedom on the normal distribution is within 0.5 % of p this way, and fifteen times as fast.
    one_sided = stdtr(df, t) if df < 30 else ndtr(t * (1 - 0.25 / df) / np.sqrt(1 + t**2 / (2 * df)))
    p: Float64Array = 2 * one_sided.mean(axis=-1)
    return p


def _p_value(value: float, of_seeds: float, shared: float, spread: Spread) -> float:
    return float(_tail(value, of_seeds * _possible(spread.count) + shared, spread.df))


def _half_widths(of_seeds: Float64Array, shared: float, spread: Spread, level: float) -> Float64Array:
    """Half the width of the interval for each estimate `of_seeds` (m,) of the seeds' part."""
    variances = of_seeds[:, None] * _possible(spread.count) + shared  # (m, nodes)
    low = np.zeros(len(of_seeds))  # (m,)
    high = np.sqrt(variances.max(axis=1))  # (m,)
    while (wide := _tail(high, variances, spread.df) > 1 - level).any():
        high[wide] *= 2
    for _ in range(24):
        middle = (low + high) / 2
        wide = _tail(middle, variances, spread.df) > 1 - level
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return high


def _half_width(of_seeds: float, shared: float, spread: Spread, level: float) -> float:
    def surplus(value: float) -> float:
        return _p_value(value, of_seeds, shared, spread) - (1 - level)

    edge = _edge(surplus, 0.0, 2 * math.sqrt(of_seeds + shared))
    return 0.0 if edge is None else edge  # zero variance: the interval is the estimate itself


def _ratio_bounds(spread: Spread, ratio: float, level: float) -> tuple[float, float] | None:
    """Bounds of the ratios arm / baseline that the means do not rule out; None if they are unbounded."""

    def surplus(value: float) -> float:
        contrast = np.array([1.0, -value])
        return _p_value(float(contrast @ spread.means), *spread.parts(contrast), spread) - (1 - level)

    step = 2 * math.sqrt(sum(spread.parts(np.array([1.0, -ratio])))) / float(spread.means[1])
    if step == 0:
        return ratio, ratio
    low, high = _edge(surplus, ratio, -step), _edge(surplus, ratio, step)
    return None if low is None or high is None else (low, high)


def _edge(surplus: Callable[[float], float], accepted: float, step: float) -> float | None:
    """Where `surplus`, positive at `accepted`, turns negative in the direction of `step`; None if it does not."""
    from scipy.optimize import brentq

    if step == 0:
        return None
    outside = accepted + step
    for _ in range(40):
        if surplus(outside) < 0:
            return float(brentq(surplus, accepted, outside, xtol=1e-7 * abs(step), rtol=1e-9))
        step *= 2
        accepted, outside = outside, outside + step
    return None


def _effect_found(of_seeds: float, shared: float, design: Spread, level: float, power: float) -> float:
    """The true difference whose estimate lies outside its own interval around zero with probability `power`."""
    from scipy.special import ndtr

    deviation = math.sqrt(of_seeds + shared)
    if deviation == 0:
        return 0.0
    seen = of_seeds / _possible(design.count, _OUTER)  # estimates of the seeds' part that future runs would give
    needed = _half_widths(seen, shared, design, level)

    def probability(effect: float) -> float:
        return float((ndtr((effect - needed) / deviation) + ndtr((-effect - needed) / deviation)).mean())

    low, high = 0.0, deviation
    while probability(high) < power:
        high *= 2
    for _ in range(48):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < power else (low, middle)
    return high
