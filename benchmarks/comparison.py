"""Measure coverage and width of the intervals of `curate compare` on simulated runs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.comparison.statistics import detectable_effect, paired_interval

_DETAILS = """\
    python -m benchmarks.comparison [--draws N] [--out FILE]

Simulated runs of two arms: S seeds, n examples, right/wrong answers or nats per token, with the seeds' part of the
variance from none to dominating. Reported for every design: how often the 95 %% interval holds the true difference (and
the true ratio), how often two identical arms are told apart (5 %% wanted), the median width over that of an interval
that knows the variance, and the same coverage for a percentile bootstrap of seeds and examples.
"""

Float64Array = npt.NDArray[np.float64]
SEEDS = (3, 5, 10)
EXAMPLES = (100, 500)
# Standard deviation over seeds of what a run scores, in the units of the values' own noise (logits for accuracy).
SEED_SPREADS = {"none": 0.0, "small": 0.05, "as the examples": 0.15, "dominating": 1.0}
OWN = 0.5  # how differently single examples react to the arm
LEVEL = 0.95


def answers(
    generator: np.random.Generator, seeds: int, n: int, spread: float, own: float, gain: float
) -> tuple[Float64Array, Float64Array]:
    """Right or wrong: (S, n) of arm and baseline, drawn from a logistic model of seeds and examples."""
    base = 1.5 * generator.normal(size=n)
    arm = base + gain + own * generator.normal(size=n) + spread * generator.normal(size=(seeds, 1))
    baseline = base + spread * generator.normal(size=(seeds, 1))
    uniform = generator.random((2, seeds, n))
    return (uniform[0] < logistic(arm)).astype(float), (uniform[1] < logistic(baseline)).astype(float)


def logistic(x: Float64Array) -> Float64Array:
    return 1 / (1 + np.exp(-x))


def expected_accuracy(spread: float, own: float, gain: float) -> float:
    """Mean of `answers` over seeds and examples, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    total = np.sqrt(1.5**2 + own**2 + spread**2)
    return float(weights @ logistic(gain + total * nodes) / weights.sum())


def losses(
    generator: np.random.Generator, seeds: int, n: int, spread: float, own: float, gain: float
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Nats per token (S, n) of arm and baseline, skewed over examples; and tokens (n,), which go with the loss."""
    tokens = np.ceil(np.exp(4 + 0.6 * generator.normal(size=n)))
    level = np.exp(0.4 * generator.normal(size=n) - 0.08) * (tokens / 60) ** -0.2
    react = gain + 0.1 * own * generator.normal(size=n)
    noise = 0.1 * generator.normal(size=(2, seeds, n))
    shift = 0.1 * spread * generator.normal(size=(2, seeds, 1))
    return level + react + noise[0] + shift[0], level + noise[1] + shift[1], tokens


@cache
def expected_loss() -> float:
    """Token-weighted mean of the baseline's `losses`: E[t^0.8] 60^0.2 / E[t], from a large draw of tokens."""
    tokens = np.ceil(np.exp(4 + 0.6 * np.random.default_rng(1).normal(size=2_000_000)))
    return float((tokens**0.8).mean() * 60**0.2 / tokens.mean())


def draw(kind: str, generator: np.random.Generator, seeds: int, n: int, spread: float, own: float, gain: float) -> Any:
    """Arguments of `paired_interval` for one simulated comparison. "pooled": two sets, of n and n / 2 examples."""
    if kind == "nll":
        arm, baseline, tokens = losses(generator, seeds, n, spread, own, gain)
        return (arm, baseline), {"weights": tokens}
    if kind == "accuracy":
        return answers(generator, seeds, n, spread, own, gain), {"discrete": True}
    shared = spread * generator.normal(size=(2, seeds, 1))  # the same trained models answer both sets
    sets = []
    for size in (n, n // 2):
        base = 1.5 * generator.normal(size=size)
        arm = logistic(base + gain + own * generator.normal(size=size) + shared[0])
        uniform = generator.random((2, seeds, size))
        sets.append(((uniform[0] < arm).astype(float), (uniform[1] < logistic(base + shared[1])).astype(float)))
    return ([each[0] for each in sets], [each[1] for each in sets]), {"discrete": True}


def truth(kind: str, spread: float, own: float, gain: float) -> tuple[float, float]:
    """The true difference and the true relative difference."""
    if kind == "nll":
        return gain, gain / expected_loss()
    baseline = expected_accuracy(spread, 0.0, 0.0)
    difference = expected_accuracy(spread, own, gain) - baseline
    return difference, difference / baseline


def bootstrap_interval(
    arm: Any, baseline: Any, *, seed: int, weights: Any = None, resamples: int = 500
) -> tuple[float, float]:
    """Percentile interval of arm - baseline by the pigeonhole bootstrap (Owen, 2007).

    Seeds and, within each set, examples are drawn with replacement, the same for both arms; sets count by their sizes.
    """
    sets = list(zip(arm, baseline, strict=True)) if isinstance(arm, list) else [(arm, baseline)]
    seeds = len(sets[0][0])
    generator = np.random.default_rng(seed)
    seed_shares = generator.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds  # (R, S)
    total = np.zeros(resamples)
    for pair in sets:
        n = pair[0].shape[1]
        mass = np.ones(n) if weights is None else np.asarray(weights, float)
        # (n, S + 1): what an example adds to the sum of each seed, and to the sum of the weights.
        added = np.column_stack([((pair[0] - pair[1]) * mass).T, mass])
        sums = np.stack([added[generator.integers(n, size=n)].sum(axis=0) for _ in range(resamples)])  # (R, S + 1)
        share = n / sum(arms.shape[1] for arms, _ in sets)
        total += share * (seed_shares * sums[:, :-1]).sum(axis=1) / sums[:, -1]
    low, high = np.quantile(total, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def design(
    kind: str, seeds: int, n: int, spread: float, own: float, gain: float, draws: int, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Shares of `draws` simulated comparisons of one design."""
    generator = np.random.default_rng(seed)
    difference, relative = truth(kind, spread, own, gain)
    held = ratio_held = 0
    told_apart: list[bool] = []
    widths, estimates, strapped = [], [], []
    for number in range(draws):
        tables, more = draw(kind, generator, seeds, n, spread, own, gain)
        interval = paired_interval(*tables, level=LEVEL, **more)
        held += interval.low <= difference <= interval.high
        # A ratio without bounds rules nothing out, so it cannot miss.
        low, high = interval.relative_low, interval.relative_high
        ratio_held += low is None or high is None or low <= relative <= high
        told_apart.append(not interval.low <= 0 <= interval.high)
        widths.append(interval.high - interval.low)
        estimates.append(interval.difference)
        if number < bootstrap:
            edges = bootstrap_interval(*tables, weights=more.get("weights"), seed=number)
            strapped.append(edges[0] <= difference <= edges[1])
    known = 2 * 1.96 * float(np.std(estimates))
    return {
        "values": kind,
        "seeds": seeds,
        "examples": n,
        "seed_spread": spread,
        "own": own,
        "gain": gain,
        "draws": draws,
        "coverage": round(held / draws, 4),
        "coverage_relative": round(ratio_held / draws, 4),
        "coverage_bootstrap": round(float(np.mean(strapped)), 4) if strapped else None,
        "told_apart": round(float(np.mean(told_apart)), 4),
        "width_over_known": round(float(np.median(widths)) / known, 3),
    }


def power(seeds: int, n: int, spread: float, draws: int, seed: int) -> dict[str, Any]:
    """How often the detectable effect, foretold from baseline runs of a large study, is then found (80 % wanted)."""
    generator = np.random.default_rng(seed)
    many = losses(generator, 200, n, spread, 0.0, 0.0)
    foretold = detectable_effect(many[1], seeds=seeds, weights=many[2])
    hits = 0
    for _ in range(draws):
        arm, baseline, tokens = losses(generator, seeds, n, spread, 0.0, -foretold.absolute)
        hits += paired_interval(arm, baseline, weights=tokens).high < 0
    result = {"seeds": seeds, "examples": n, "seed_spread": spread, "foretold": round(foretold.absolute, 5)}
    return {**result, "draws": draws, "found": round(hits / draws, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--bootstrap", type=int, default=300, metavar="N", help="of these, with a bootstrap as well")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    designs = []
    print(
        f"{'values':9} {'S':>3} {'n':>4} {'seed spread':>11} {'own':>4} {'gain':>6}  cover  ratio  boot.  told   width"
    )
    for kind, gain in (("accuracy", 0.4), ("nll", -0.05), ("pooled", 0.4)):
        for seeds in SEEDS:
            for n in EXAMPLES:
                for spread in SEED_SPREADS.values():
                    for own, effect in ((0.0, 0.0), (OWN, gain)):
                        number = len(designs)
                        row = design(kind, seeds, n, spread, own, effect, options.draws, options.bootstrap, number)
                        designs.append(row)
                        print(
                            f"{kind:9} {seeds:3} {n:4} {spread:11} {own:4} {effect:6}  {row['coverage']:.3f}  "
                            f"{row['coverage_relative']:.3f}  {row['coverage_bootstrap'] or float('nan'):.3f}  "
                            f"{row['told_apart']:.3f}  {row['width_over_known']:.2f}",
                            flush=True,
                        )
    planned = [power(seeds, 100, 0.15, options.draws, 7) for seeds in (2, *SEEDS)]
    for row in planned:
        print(row)
    record = {
        "command": " ".join(["python -m benchmarks.comparison", *sys.argv[1:]]),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "device": "cpu",
        "versions": {name: metadata.version(name) for name in ("numpy", "scipy")},
        "level": LEVEL,
        "seconds": round(time.perf_counter() - started, 1),
        "lowest_coverage": min(row["coverage"] for row in designs),
        "highest_coverage": max(row["coverage"] for row in designs),
        "lowest_coverage_relative": min(row["coverage_relative"] for row in designs),
        "lowest_coverage_bootstrap": min((row["coverage_bootstrap"] or 1.0) for row in designs),
        "most_identical_told_apart": max(row["told_apart"] for row in designs if row["gain"] == 0),
        "designs": designs,
        "power": planned,
    }
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
