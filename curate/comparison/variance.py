"""Variance components of a paired difference: seeds, examples and residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.types import Float64Array

Table = npt.ArrayLike  # (S, n): one row per seed, one column per example
Tables = Table | Sequence[Table]  # one, or one per evaluation set
Weights = npt.ArrayLike | Sequence[npt.ArrayLike] | None  # (n,), or one per evaluation set

# For answers that are right or wrong: as if one more example were won and one lost. A gain on one example in fifty is
# otherwise missed entirely, and its interval is too narrow, if few of those examples were drawn.
_UNSEEN = 2.0


@dataclass(frozen=True)
class Spread:
    """means (2,) of arm and baseline, and the covariance (2, 2) of their sampling, by what it comes from.

    seeds: of the means of single seeds, so with what seeds and examples have in common; S - 1 degrees of freedom.
    examples: variance that examples add in every seed; its estimate may be negative. floor: variance of any contrast.
    """

    means: Float64Array
    seeds: Float64Array
    examples: Float64Array
    floor: float
    count: int
    n: int
    df: int

    def parts(self, contrast: Float64Array) -> tuple[float, float]:
        """Variance of a contrast of the means: from seeds (estimated with S - 1 degrees of freedom), from examples."""
        shared = max(float(contrast @ self.examples @ contrast), 0.0) + self.floor
        return float(contrast @ self.seeds @ contrast), shared


def paired_tables(
    arm: Tables,
    baseline: Tables,
    weights: Weights,
    shares: Sequence[float] | None,
) -> tuple[list[Float64Array], list[Float64Array], list[float]]:
    """Per set: values (2, S, n) of arm and baseline, weights (n,), and the set's share of the total."""
    arms, baselines = _tables(arm, "arm"), _tables(baseline, "baseline")
    if len(arms) != len(baselines):
        raise InputError(f"the arm has {len(arms)} sets and the baseline {len(baselines)}; give both the same sets")
    if weights is None:
        example_weights = [np.ones(table.shape[1]) for table in arms]
    else:
        listed = [weights] if len(arms) == 1 and np.ndim(weights) == 1 else weights  # type: ignore[arg-type]
        example_weights = [np.asarray(vector, np.float64) for vector in listed]  # type: ignore[union-attr]
    pairs = []
    for arm_values, baseline_values, weight in zip(arms, baselines, example_weights, strict=True):
        if (
            arm_values.shape != baseline_values.shape
            or arm_values.shape[0] != arms[0].shape[0]
            or weight.shape != arm_values.shape[1:]
        ):
            raise InputError(
                f"values of shape {arm_values.shape} and {baseline_values.shape} with {weight.shape} weights cannot be "
                "paired; give every set the same seeds, and both arms the same examples"
            )
        if arm_values.shape[0] < 1 or arm_values.shape[1] < 2:
            raise InputError(
                f"{arm_values.shape[1]} examples of {arm_values.shape[0]} seeds are too few; give at least 2 examples"
            )
        if not (np.isfinite(arm_values).all() and np.isfinite(baseline_values).all()):
            raise InputError("a value is not finite; leave out the examples that were not measured in every run")
        if not (np.isfinite(weight).all() and (weight > 0).all()):
            raise InputError("a weight is not a positive number; leave out examples without tokens")
        pairs.append(np.stack([arm_values, baseline_values]))
    portions = [float(table.shape[1]) for table in arms] if shares is None else [float(share) for share in shares]
    if len(portions) != len(arms) or min(portions) < 0 or sum(portions) <= 0:
        raise InputError(f"shares {portions} do not fit {len(arms)} sets; give one number per set, none negative")
    return pairs, example_weights, [portion / sum(portions) for portion in portions]


def _tables(values: Tables, name: str) -> list[Float64Array]:
    listed = [values] if isinstance(values, np.ndarray) and values.ndim == 2 else values
    tables = [np.asarray(table, np.float64) for table in listed]  # type: ignore[union-attr]  # (S, n) each
    if tables and all(table.ndim == 1 for table in tables):  # nested lists of one table
        tables = [np.asarray(values, np.float64)]
    if not tables or any(table.ndim != 2 for table in tables):
        raise InputError(f"{name} is not a table of seeds x examples; give an array (S, n), or a list of them")
    return tables


def spread_of(
    arm: Tables,
    baseline: Tables,
    weights: Weights,
    shares: Sequence[float] | None,
    discrete: bool,
) -> Spread:
    """Means and variance components of a paired difference; arguments of `paired_interval`."""
    pairs, example_weights, portions = paired_tables(arm, baseline, weights, shares)
    count = pairs[0].shape[1]
    means, examples, floor = np.zeros(2), np.zeros((2, 2)), 0.0  # (2,), (2, 2)
    of_seeds = np.zeros((2, count))  # (2, S)
    for pair, weight, portion in zip(pairs, example_weights, portions, strict=True):
        n = len(weight)
        mean = (pair @ weight).mean(axis=1) / weight.sum()  # (2,)
        # To first order, a ratio of sums varies like the mean of these residuals.
        residual = (pair - mean[:, None, None]) * (weight / weight.mean())  # (2, S, n)
        by_seed, by_example = residual.mean(axis=2), residual.mean(axis=1)  # (2, S), (2, n)
        means += portion * mean
        of_seeds += portion * by_seed
        examples += portion**2 * (by_example @ by_example.T) / (n * (n - 1))
        if count > 1:
            rest = (residual - by_seed[:, :, None] - by_example[:, None, :]).reshape(2, -1)  # (2, S * n)
            examples -= portion**2 * (rest @ rest.T) / (count * n * (count - 1) * (n - 1))
        floor += _UNSEEN / len(pairs) * portion**2 / n**2 if discrete else 0.0
    seeds = of_seeds @ of_seeds.T / (count * max(count - 1, 1))  # (2, 2)
    sizes = [len(weight) for weight in example_weights]
    return Spread(means, seeds, examples, floor, count, sum(sizes), sum(sizes) - len(sizes))
