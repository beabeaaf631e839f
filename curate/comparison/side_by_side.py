"""The four summary numbers of a difference: loss and exact answers, on the mixture and balanced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from curate.comparison.differences import BALANCED, POOLED
from curate.comparison.text import interval, signed
from curate.console.formatting import MISSING

METRICS = {"nll": "loss", "accuracy": "answers"}
SETS = {POOLED: "mixture", BALANCED: "balanced"}
COLUMNS = tuple((metric, whole) for metric in METRICS.values() for whole in SETS.values())
_NUMBERS = ("difference", "low", "high", "relative", "verdict")


def side_by_side(differences: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record per arm, baseline and budget with loss and answers, on the mixture and balanced; None = not measured.

    Mixture: all questions as they come. Balanced: the unweighted mean over levels, or over sources if there are none,
    so that a rare one counts as much as a frequent one. Arms that gain on one of the four often lose on another.

    Each is {difference, low, high, relative, verdict}, copied from the rows of `difference_rows`.
    """
    records: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in differences:
        if row["set"] not in SETS:
            continue
        pair = {name: row[name] for name in ("arm", "baseline", "budget")}
        empty = {metric: dict.fromkeys(SETS.values()) for metric in METRICS.values()}
        record = records.setdefault(tuple(pair.values()), {**pair, **empty})
        record[METRICS[row["metric"]]][SETS[row["set"]]] = {name: row[name] for name in _NUMBERS}
    return list(records.values())


def cells(record: Mapping[str, Any], *, intervals: bool = True) -> list[str]:
    """The four numbers as text, in the order of COLUMNS."""
    texts = []
    for metric, set_name in COLUMNS:
        row, name = record[metric][set_name], next(key for key, value in METRICS.items() if value == metric)
        if row is None:
            texts.append(MISSING)
        else:
            texts.append(signed(name, row["difference"]) + (f" ({interval(name, row)})" if intervals else ""))
    return texts
