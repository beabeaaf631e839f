"""One arm against another as rows of numbers: of all evaluation sets, of each, and of each level or source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from curate.comparison.paired_scores import Metric, SetValues
from curate.comparison.runs import ArmRun
from curate.comparison.statistics import detectable_effect, holm, paired_interval

__all__ = ["adjust", "by_label", "distinct", "pooled_and_single"]

MOST_LABELS = 30  # levels or sources of one set
LEAST_EXAMPLES = 5  # fewer of a level or source say nothing


def _is_better(metric: str, difference: float) -> bool:
    """Whether this difference is a gain: more accuracy, fewer nats."""
    return difference < 0 if metric == "nll" else difference > 0


def pooled_and_single(
    arm: list[ArmRun],
    baseline: list[ArmRun],
    values: dict[Metric, list[SetValues]],
    *,
    whole: bool = False,
) -> list[dict[str, Any]]:
    """For each metric: all sets together, their plain mean where it is another number, and each set.

    whole: all sets together only.
    """
    rows = []
    for metric, sets in values.items():
        wholes: list[tuple[str, list[SetValues], list[float] | None]] = [("pooled", sets, None)]
        if len({len(each.ids) for each in sets}) > 1:
            wholes.append(("mean of sets", sets, [1.0] * len(sets)))
        each_set = [(each.name, [each], None) for each in sets]
        for name, chosen, shares in wholes[:1] if whole else [*wholes, *each_set]:
            tables = [each.table(arm) for each in chosen], [each.table(baseline) for each in chosen]
            more: dict[str, Any] = {"weights": [each.weights_of() for each in chosen], "shares": shares}
            row = _row(name, metric, *tables, **more)
            found = detectable_effect(tables[1], tables[0], discrete=metric == "accuracy", **more)
            possible = len(arm) > 1 and (metric == "nll" or found.absolute <= 1)
            row |= {"detectable": found.absolute if possible else None}
            row |= {"detectable_relative": found.relative if possible else None}
            rows.append(row)
    return rows


def _row(name: str, metric: Metric, arm: Any, baseline: Any, **more: Any) -> dict[str, Any]:
    found = paired_interval(arm, baseline, discrete=metric == "accuracy", **more)
    most = 1.0 if metric == "accuracy" else math.inf
    verdict = "no evidence"
    if found.seeds == 1:
        verdict = "one seed"
    elif not found.low <= 0 <= found.high:
        verdict = "better" if _is_better(metric, found.difference) else "worse"
    return {
        "set": name,
        "metric": metric,
        "baseline_mean": found.baseline_mean,
        "arm_mean": found.arm_mean,
        "difference": found.difference,
        "relative": found.relative,
        "low": max(found.low, -most),
        "high": min(found.high, most),
        "relative_low": found.relative_low and max(found.relative_low, -1.0),
        "relative_high": found.relative_high,
        "p": found.p,
        "verdict": verdict,
        "primary": False,
        "seeds": found.seeds,
        "examples": found.examples,
    }


def distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences in one metric without those on the only evaluation set, which the pooled ones say already."""
    lone = len({each["set"] for each in rows} - {"pooled"}) == 1
    return [each for each in rows if not lone or each["set"] == "pooled"]


def adjust(family: list[dict[str, Any]]) -> None:
    """Add to each row its p value adjusted for the number of rows (Holm)."""
    for row, adjusted in zip(family, holm([each["p"] for each in family]), strict=True):
        row["p_holm"] = adjusted


def by_label(
    arm: list[ArmRun], baseline: list[ArmRun], values: dict[Metric, list[SetValues]], kind: str
) -> list[dict[str, Any]]:
    """The difference for each level, or source, of each set that has several."""
    rows = []
    for metric, sets in values.items():
        for each in sets:
            labels = each.levels if kind == "levels" else each.sources
            if labels is None:
                continue
            array = np.array(["not given" if label is None else label for label in labels])
            names, counts = np.unique(array, return_counts=True)
            large = sorted(zip(-counts, names.tolist(), strict=True))[:MOST_LABELS]
            for name in sorted((name for count, name in large if -count >= LEAST_EXAMPLES), key=_natural):
                chosen = array == name
                row = _row(
                    each.name,
                    metric,
                    each.table(arm, chosen),
                    each.table(baseline, chosen),
                    weights=each.weights_of(chosen),
                )
                rows.append({kind.removesuffix("s"): name, **row})
    return rows


def _natural(label: str) -> tuple[Any, ...]:
    """Level 10 after level 9."""
    digits = "".join(each for each in label if each.isdigit())
    return (label.rstrip("0123456789"), int(digits) if digits else -1, label)
