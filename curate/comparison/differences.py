"""Paired differences as rows: pooled, per evaluation set, per level and per source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from curate.comparison.paired_scores import Metric, SetValues
from curate.comparison.runs import ArmRun
from curate.comparison.statistics import detectable_effect, holm, paired_interval

_MOST_LABELS = 30  # levels or sources of one set
_LEAST_EXAMPLES = 5  # of a level or source; fewer are not shown


def _is_better(metric: str, difference: float) -> bool:
    """Whether this difference is a gain: more accuracy, fewer nats."""
    return difference < 0 if metric == "nll" else difference > 0


def difference_rows(
    arm: list[ArmRun],
    baseline: list[ArmRun],
    values: dict[Metric, list[SetValues]],
    *,
    pooled_only: bool = False,
) -> list[dict[str, Any]]:
    """For each metric: all sets pooled, their unweighted mean if it differs, and each set.

    pooled_only: all sets pooled only.
    """
    rows = []
    for metric, sets in values.items():
        wholes: list[tuple[str, list[SetValues], list[float] | None]] = [("pooled", sets, None)]
        if len({len(each.ids) for each in sets}) > 1:
            wholes.append(("mean of sets", sets, [1.0] * len(sets)))
        each_set = [(each.name, [each], None) for each in sets]
        for name, chosen, shares in wholes[:1] if pooled_only else [*wholes, *each_set]:
            tables = [each.table(arm) for each in chosen], [each.table(baseline) for each in chosen]
            more: dict[str, Any] = {"weights": [each.weights_of() for each in chosen], "shares": shares}
            row = _row(name, metric, *tables, **more)
            effect = detectable_effect(tables[1], tables[0], discrete=metric == "accuracy", **more)
            possible = len(arm) > 1 and (metric == "nll" or effect.absolute <= 1)
            row |= {"detectable": effect.absolute if possible else None}
            row |= {"detectable_relative": effect.relative if possible else None}
            rows.append(row)
    return rows


def _row(name: str, metric: Metric, arm: Any, baseline: Any, **more: Any) -> dict[str, Any]:
    result = paired_interval(arm, baseline, discrete=metric == "accuracy", **more)
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
    lone = len({each["set"] for each in rows} - {"pooled"}) == 1
    return [each for each in rows if not lone or each["set"] == "pooled"]


def adjust(family: list[dict[str, Any]]) -> None:
    """Add to each row its p value adjusted for the number of rows (Holm)."""
    for row, adjusted in zip(family, holm([each["p"] for each in family]), strict=True):
        row["p_holm"] = adjusted


def label_rows(
    arm: list[ArmRun], baseline: list[ArmRun], values: dict[Metric, list[SetValues]], kind: str
) -> list[dict[str, Any]]:
    """The difference for each level, or source, of each set that has several."""
    rows = []
    for metric, sets in values.items():
        for values_of_set in sets:
            labels = values_of_set.levels if kind == "levels" else values_of_set.sources
            if labels is None:
                continue
            array = np.array(["not given" if label is None else label for label in labels])
            names, counts = np.unique(array, return_counts=True)
            large = sorted(zip(-counts, names.tolist(), strict=True))[:_MOST_LABELS]
            for name in sorted((name for count, name in large if -count >= _LEAST_EXAMPLES), key=_natural):
                chosen = array == name
                row = _row(
                    values_of_set.name,
                    metric,
                    values_of_set.table(arm, chosen),
                    values_of_set.table(baseline, chosen),
                    weights=values_of_set.weights_of(chosen),
                )
                rows.append({kind.removesuffix("s"): name, **row})
    return rows


def _natural(label: str) -> tuple[Any, ...]:
    """Level 10 after level 9."""
    digits = "".join(each for each in label if each.isdigit())
    return (label.rstrip("0123456789"), int(digits) if digits else -1, label)
