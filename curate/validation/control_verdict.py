"""Result of the positive control: a table, mixture first, and a one-sentence verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.comparison.compare import compare
from curate.comparison.text import UNITS, interval, relative, signed, value
from curate.validation.config import BASELINE

SETS = ("mixture", "balanced")
REPORTED = (("mixture", "nll"), ("mixture", "accuracy"), ("balanced", "nll"), ("balanced", "accuracy"))
_FEWEST_SEEDS = 3  # with fewer seeds no interval can exclude zero


def results(place: Path, runs: Sequence[str], against: Sequence[str] = ("random", "easy")) -> dict[str, Any]:
    """results, hard_against and verdict of the runs of a validation in the folder `place`."""
    folders = [place / "runs" / name for name in runs]
    arms = {name.split("-steps-")[0] for name in runs}
    rows = {name: _rows(compare(folders, name, sets=SETS).record) for name in (BASELINE, *against) if name in arms}
    record = {
        "results": rows[BASELINE],
        "hard_against": [row for name in against if name in rows for row in rows[name] if row["arm"] == "hard"],
    }
    return {**record, "verdict": verdict(rows)}


def _rows(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = ["arm", "baseline", "set", "metric", "baseline_mean", "arm_mean", "difference", "low", "high"]
    kept += ["relative", "relative_low", "relative_high", "p", "verdict", "seeds", "examples"]
    rows = [
        {key: row[key] for key in kept} for row in comparison["differences"] if (row["set"], row["metric"]) in REPORTED
    ]
    order = list(dict.fromkeys(row["arm"] for row in rows))
    return sorted(rows, key=lambda row: (order.index(row["arm"]), REPORTED.index((row["set"], row["metric"]))))


def verdict(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """{came_out, by, sentence} for differences by baseline.

    The control came out if hard is better than original and than random in nats on the mixture and in exact answers on
    all skills alike, by intervals. With one or two seeds, intervals say nothing and estimates decide (by: "estimates");
    nats on the mixture then only must not be worse.
    """
    intervals = {(base, *REPORTED[k]): _one(rows[base], *REPORTED[k]) for base in (BASELINE, "random") for k in (0, 3)}
    by = "intervals" if min(row["seeds"] for row in intervals.values()) >= _FEWEST_SEEDS else "estimates"
    failed = [key for key, row in intervals.items() if not _holds(row, by)]
    nats, answers = intervals[BASELINE, "mixture", "nll"], intervals[BASELINE, "balanced", "accuracy"]
    random, others = intervals["random", "mixture", "nll"], intervals["random", "balanced", "accuracy"]
    if failed:
        base, _, metric = failed[0]
        row = intervals[failed[0]]
        what = "nats per token on the mixture" if metric == "nll" else "exact answers of all skills alike"
        sentence = (
            f"The control failed: {what}, hard against {base}: {signed(metric, row['difference'])} "
            f"({interval(metric, dict(row))}; {UNITS[metric]}); where this effect is not found, "
            "finding none in your own data says little."
        )
    else:
        sentence = (
            f"The control passed: copies of hard rows change nats per token (mixture) by {relative(nats['relative'])} "
            f"and exact answers of all skills alike from {value('accuracy', answers['baseline_mean'])} to "
            f"{value('accuracy', answers['arm_mean'])}; against as many random copies by "
            f"{relative(random['relative'])} and {signed('accuracy', others['difference'])} points."
        )
        if by == "estimates":
            sentence += (
                f" This goes by the estimates alone: {nats['seeds']} seed(s) are too few for intervals (--seeds 5)."
            )
    return {"came_out": not failed, "by": by, "sentence": sentence}


def _one(rows: Sequence[Mapping[str, Any]], where: str, metric: str) -> Mapping[str, Any]:
    return next(row for row in rows if (row["arm"], row["set"], row["metric"]) == ("hard", where, metric))


def _holds(row: Mapping[str, Any], by: str) -> bool:
    if by == "intervals":
        return bool(row["verdict"] == "better")
    return bool(row["difference"] <= 0 if row["metric"] == "nll" else row["difference"] > 0)
