"""Paired differences as rows: pooled, per evaluation set, per level and per source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from curate.comparison.paired_scores import Metric, SetValues
from curate.comparison.runs import ArmRun
from curate.comparison.statistics import detectable_effect, holm, paired_interval
from curate.types import BoolArray

# Names of aggregates over several sets. They are reserved, and differ from likely names of users' sets ("balanced").
POOLED, MEAN_OF_SETS, BALANCED = "pooled", "mean of sets", "mean of groups"
_MOST_LABELS = 30  # levels or sources of one set
_LEAST_EXAMPLES = 5  # of a level or source; fewer are not shown
_EVERYTHING = slice(None)


def _is_better(metric: str, difference: float) -> bool:
    """Whether this difference is a gain: more accuracy, fewer nats."""
    return difference < 0 if metric == "nll" else difference > 0


def difference_rows(
    arm: list[ArmRun],
    baseline: list[ArmRun],
    values: dict[Metric, list[SetValues]],
    *,
    whole_only: bool = False,
) -> list[dict[str, Any]]:
    """For each metric: all sets pooled, their unweighted mean if it differs, the mean over their levels or sources
    ("mean of groups", see `parts_of`) if there are some, and each set.

    whole_only: pooled and balanced only.
    """
    rows = []
    for metric, sets in values.items():
        whole_sets = [(evaluation_set, _EVERYTHING) for evaluation_set in sets]
        parts = [(evaluation_set, chosen) for evaluation_set in sets for chosen in parts_of(evaluation_set)]
        wholes: list[tuple[str, list[tuple[SetValues, Any]], list[float] | None]] = [(POOLED, whole_sets, None)]
        if len({len(evaluation_set.ids) for evaluation_set in sets}) > 1 and not whole_only:
            wholes.append((MEAN_OF_SETS, whole_sets, [1.0] * len(sets)))
        if len(parts) > len(sets):
            wholes.append((BALANCED, parts, [1.0] * len(parts)))
        single_sets = (
            []
            if whole_only
            else [(evaluation_set.name, [(evaluation_set, _EVERYTHING)], None) for evaluation_set in sets]
        )
        for name, chosen, shares in [*wholes, *single_sets]:
            tables = (
                [scores.table(arm, part) for scores, part in chosen],
                [scores.table(baseline, part) for scores, part in chosen],
            )
            weighting: dict[str, Any] = {
                "weights": [scores.weights_of(part) for scores, part in chosen],
                "shares": shares,
            }
            row = _row(name, metric, *tables, **weighting)
            effect = detectable_effect(tables[1], tables[0], discrete=metric == "accuracy", **weighting)
            possible = len(arm) > 1 and (metric == "nll" or effect.absolute <= 1)
            row |= {"detectable": effect.absolute if possible else None}
            row |= {"detectable_relative": effect.relative if possible else None}
            rows.append(row)
    return rows


def _row(name: str, metric: Metric, arm: Any, baseline: Any, **weighting: Any) -> dict[str, Any]:
    """One record of differences: the paired interval, clipped to the metric's range, and the verdict."""
    result = paired_interval(arm, baseline, discrete=metric == "accuracy", **weighting)
    most = 1.0 if metric == "accuracy" else math.inf
    verdict = "no evidence"
    if result.seeds == 1:
        verdict = "one seed"
    elif not result.low <= 0 <= result.high:
        verdict = "better" if _is_better(metric, result.difference) else "worse"
    return {
        "set": name,
        "metric": metric,
        "baseline_mean": result.baseline_mean,
        "arm_mean": result.arm_mean,
        "difference": result.difference,
        "relative": result.relative,
        "low": max(result.low, -most),
        "high": min(result.high, most),
        "relative_low": result.relative_low and max(result.relative_low, -1.0),
        "relative_high": result.relative_high,
        "p": result.p,
        "verdict": verdict,
        "primary": False,
        "seeds": result.seeds,
        "examples": result.examples,
    }


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences in one metric; with a single evaluation set only the pooled ones, which are equal to its own."""
    lone = len({row["set"] for row in rows} - {POOLED, BALANCED}) == 1
    return [row for row in rows if not lone or row["set"] in (POOLED, BALANCED)]


def adjust(family: list[dict[str, Any]]) -> None:
    """Add to each row its p value adjusted for the number of rows (Holm)."""
    for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
        row["p_holm"] = adjusted


def label_rows(
    arm: list[ArmRun], baseline: list[ArmRun], values: dict[Metric, list[SetValues]], kind: str
) -> list[dict[str, Any]]:
    """The difference for each level or source of each set that has several."""
    rows = []
    for metric, sets in values.items():
        for values_of_set in sets:
            for name, chosen in _labeled(values_of_set, kind):
                row = _row(
                    values_of_set.name,
                    metric,
                    values_of_set.table(arm, chosen),
                    values_of_set.table(baseline, chosen),
                    weights=values_of_set.weights_of(chosen),
                )
                rows.append({kind.removesuffix("s"): name, **row})
    return rows


def parts_of(values: SetValues) -> list[Any]:
    """Boolean masks (n,) of the examples of each level of a set; of each source if it has no levels; else one for all.

    Only the 30 largest levels or sources with at least 5 examples.
    """
    for kind in ("levels", "sources"):
        masks = [chosen for _, chosen in _labeled(values, kind)]
        if len(masks) > 1:
            return masks
    return [_EVERYTHING]


def _labeled(values: SetValues, kind: str) -> list[tuple[str, BoolArray]]:
    """(name, (n,) bool mask) of the levels or sources of a set that are shown, in natural order."""
    labels = values.levels if kind == "levels" else values.sources
    if labels is None:
        return []
    array = np.array(["not given" if label is None else label for label in labels])  # (n,)
    names, counts = np.unique(array, return_counts=True)
    large = sorted(zip(-counts, names.tolist(), strict=True))[:_MOST_LABELS]
    largest = sorted((name for count, name in large if -count >= _LEAST_EXAMPLES), key=_natural)
    return [(name, array == name) for name in largest]


def _natural(label: str) -> tuple[Any, ...]:
    """Sort key: level 10 comes after level 9."""
    digits = "".join(character for character in label if character.isdigit())
    return (label.rstrip("0123456789"), int(digits) if digits else -1, label)
