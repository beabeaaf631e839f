"""Predict losses of arms from exposures alone: groups advance along their curves in proportion to their exposures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.when.outcomes import steps_of, values
from benchmarks.when.settings import ARMS, BASELINE
from curate.difficulty.exposures import effective, fall_per_e_fold, multiples, read_curve

_DETAILS = """\
Groups g whose rows are copied so that one is shown 1 + e_g times on average, where all rows are shown 1 + e times: in
equal steps group g has m_g = (1 + e_g) / (1 + e) times the exposures it had. Its loss is then that of the original arm
at m_g times the steps, as far as groups do not help or disturb each other, plus what repetition costs, which the random
control shows. Curves and cost are always of other seeds than the one predicted.

    python -m benchmarks.when.exposures [--records benchmarks/results]
"""

Array = npt.NDArray[np.float64]
LEVELS = ("1", "2", "3", "4")
_PASSES = {"original 1 pass": 1, BASELINE: 3, "original 6 passes": 6}
_REPRODUCTION_ROWS = 4_000
_RECORDS = {
    "cpu": ("hard", "random", "easy", "final-loss"),
    "factor": tuple(f"{of} x{factor}" for factor in (2, 3, 5, 10) for of in ("hard", "random")),
    "features": ("absolute", "absolute per source", "final", "relative"),
    "proxy": ("proxy 32x1", "proxy 64x2", "proxy 96x3", "1/10 epoch K=2", "1/3 epoch K=5", "1 epoch K=15"),
    "limits": ("hard", "oracle"),
}


@dataclass(frozen=True)
class Foretold:
    """Changes of one arm against the original, means over seeds, relative to the original's loss.

    exposures: what exposures say; predicted: with the cost of repetition; observed; seeds: how many.
    """

    where: str
    arm: str
    exposures: float
    predicted: float
    observed: float
    seeds: int


# -- the records of the reproduction ----------------------------------------------------------------------------------


def reproduction(records: Path) -> list[Foretold]:
    """The arms of the arithmetic reproduction, on the balanced set.

    S_g, the fall of group g's loss per e-fold of passes, is the slope over the original arm at 1, 3 and 6 passes; the
    cost of repetition is linear in what Kish's effective rows lack, fitted to random x2, x3, x5 and x10.
    """
    runs = {name: _runs(records / f"reproduction-{name}-cpu.json".replace("cpu-cpu", "cpu")) for name in _RECORDS}
    predictions = []
    for name, arms in _RECORDS.items():
        for arm in arms:
            seed_values = [_foretell(runs, name, arm, seed) for seed in sorted(s for a, s in runs[name] if a == arm)]
            exposures, predicted, observed = np.mean(seed_values, axis=0).tolist()
            predictions.append(Foretold(f"reproduction-{name}", arm, exposures, predicted, observed, len(seed_values)))
    return predictions


def _foretell(runs: Mapping[str, Any], name: str, arm: str, seed: int) -> tuple[float, float, float]:
    run, base = runs[name][arm, seed], runs[name][BASELINE, seed]
    slopes = slopes_of(runs["limits"], seed)
    choice = run["choice"]
    extra = choice["extra_rows"] / _REPRODUCTION_ROWS
    m = multiples({level: choice["extra_copies_by_level"][level] for level in LEVELS}, extra)
    before, after = (np.array([each["curve"][-1]["balanced"][level] for level in LEVELS]) for each in (base, run))
    change = float(np.mean([-slopes[level] * np.log(m[level]) for level in LEVELS])) / before.mean()
    factor = float(arm.split(" x")[1]) if " x" in arm else 2.0
    lacking = 1 - effective(extra / (factor - 1), factor)
    return change, change + repetition_cost(runs["factor"], seed) * lacking, float(after.mean() / before.mean() - 1)


def slopes_of(limits: Mapping[tuple[str, int], Any], seed: int) -> dict[str, float]:
    """Level -> S_g from the seeds other than `seed`."""
    slopes = {}
    for level in LEVELS:
        points = [
            (_PASSES[arm], run["curve"][-1]["balanced"][level])
            for (arm, other), run in limits.items()
            if arm in _PASSES and other != seed
        ]
        passes, losses = np.array(points).T
        slopes[level] = float(fall_per_e_fold(passes, losses))
    return slopes


def repetition_cost(factors: Mapping[tuple[str, int], Any], seed: int) -> float:
    """Relative change of the balanced loss per lacking effective row, from random controls of other seeds."""
    lacking, change = [], []
    for (arm, other), run in factors.items():
        if arm.startswith("random x") and other != seed:
            factor = float(arm.split(" x")[1])
            base = _balanced(factors[BASELINE, other])
            lacking.append(1 - effective(run["choice"]["extra_rows"] / _REPRODUCTION_ROWS / (factor - 1), factor))
            change.append(_balanced(run) / base - 1)
    return float(np.dot(lacking, change) / np.dot(lacking, lacking))


def _balanced(run: Mapping[str, Any]) -> float:
    return float(np.mean([run["curve"][-1]["balanced"][level] for level in LEVELS]))


def _runs(path: Path) -> dict[tuple[str, int], Any]:
    """(arm, seed) -> run at equal steps."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return {(run["arm"], run["seed"]): run for run in record["runs"] if run["budget"] == "steps"}


# -- the map ----------------------------------------------------------------------------------------------------------


def map_arm(blocks: Sequence[Mapping[str, Any]], arm: str, budget: float) -> Foretold | None:
    """An arm of one setting at a budget, on the training mixture; None where fewer than two seeds have it.

    blocks: the seeds of the setting. Group curves are those of the original arm along its way, geometric means over the
    other seeds, read at m_g times the steps (beyond the longest budget along the last slope); the cost of repetition is
    what random x3 changes, scaled by the effective rows that are lacking.
    """
    having = [block for block in blocks if {arm, BASELINE} <= block["arms"].keys()]
    if len(having) < 2:
        return None
    block_values = []
    for block in having:
        others = [other for other in having if other is not block]
        block_values.append(_map_change(block, others, arm, budget))
    exposures, predicted, observed = np.mean(block_values, axis=0).tolist()
    return Foretold(
        f"{block['setting']['family']} {block['name']} {budget:g}",
        arm,
        exposures,
        predicted,
        observed,
        len(block_values),
    )


def _map_change(
    block: Mapping[str, Any], others: Sequence[Mapping[str, Any]], arm: str, budget: float
) -> tuple[float, float, float]:
    step, mixture = steps_of(block["setting"], budget), block["mixture"]
    m = arm_multiples(block, arm)
    weights = np.array(list(mixture.values())) / sum(mixture.values())
    then, now = (
        np.array([np.exp(np.mean([_log_loss(o, group, step * by) for o in others])) for group, by in factors])
        for factors in ([(group, m[group]) for group in mixture], [(group, 1.0) for group in mixture])
    )
    exposures = float(weights @ then / (weights @ now)) - 1
    outcome = [values(block["arms"][name], step, mixture)["nats mixture"] for name in (BASELINE, arm)]
    return exposures, exposures + _map_cost(others, block, arm, budget), outcome[1] / outcome[0] - 1


def _map_cost(others: Sequence[Mapping[str, Any]], block: Mapping[str, Any], arm: str, budget: float) -> float:
    costs = []
    for other in others:
        if "random x3" in other["arms"]:
            step = steps_of(other["setting"], budget)
            base, random = (
                values(other["arms"][n], step, other["mixture"])["nats mixture"] for n in (BASELINE, "random x3")
            )
            lacking = 1 - effective(other["hard_share"], 3)
            costs.append((random / base - 1) / lacking if lacking > 0 else 0.0)
    kind = ARMS[arm]
    share = block["rare_share"] if kind.of == "late" else block["hard_share"]
    return float(np.mean(costs)) * (1 - effective(share, kind.factor)) if costs else 0.0


def arm_multiples(block: Mapping[str, Any], arm: str) -> dict[str, float]:
    """m_g of the groups, from what the proxy called hard in each."""
    kind, hard, share = ARMS[arm], block["hard_share_by_group"], block["hard_share"]
    more = kind.factor - 1
    groups = list(block["mixture"])
    if kind.of == "hard":
        return multiples({group: more * hard.get(group, 0.0) for group in groups}, more * share)
    if kind.of == "easy":
        each = share / (1 - share)
        return multiples({group: more * each * (1 - hard.get(group, 0.0)) for group in groups}, more * share)
    if kind.of == "late":
        rare = {group: float(group in block["rare_groups"]) for group in groups}
        return multiples({group: more * rare[group] for group in groups}, more * block["rare_share"])
    return dict.fromkeys(groups, 1.0)


def _log_loss(block: Mapping[str, Any], group: str, step: float) -> float:
    """Logarithm of the original arm's loss of a group after so many steps."""
    run = block["arms"][BASELINE]
    return float(np.log(read_curve(run["steps"], run["nats"][group], step)))


FORETOLD_ARMS = ("hard x2", "hard x3", "hard x5", "easy x3", "late x3")


def summary(predictions: Sequence[Foretold], least: float = 0.005) -> dict[str, float]:
    """Agreement of predicted and observed changes: Pearson's r, sign right where at least `least` is predicted, and by
    how much sizes are overstated (slope of predicted on observed through zero)."""
    predicted, observed = (
        np.array([getattr(each, name) for each in predictions]) for name in ("predicted", "observed")
    )
    large = np.abs(predicted) >= least
    return {
        "arms": len(predictions),
        "r": float(np.corrcoef(predicted, observed)[0, 1]),
        "arms_with_a_prediction": int(large.sum()),
        "sign_right": float((np.sign(predicted[large]) == np.sign(observed[large])).mean()),
        "overstated": float(predicted @ observed / (observed @ observed)),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=Path, default=Path("benchmarks/results"))
    predictions = reproduction(parser.parse_args(arguments).records)
    for each in predictions:
        numbers = (each.exposures, each.predicted, each.observed)
        print(f"{each.where:<24} {each.arm:<20} {'  '.join(f'{x:+7.2%}' for x in numbers)}  {each.seeds} seeds")
    print(summary(predictions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
