"""How often the test of the control would fail by chance: its criteria asked of pairs of seeds that ran as it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from benchmarks.confirm.outcome import BASELINE, CONTROL, TREATED, arm_means

# What the test asserts: (measure, against, sign of the margin that must be positive).
CRITERIA = {
    "balanced answers, hard over original": (("balanced", "right"), BASELINE, 1),
    "balanced answers, hard over random": (("balanced", "right"), CONTROL, 1),
    "mixture nats, original over hard": (("mixture", "nats"), BASELINE, -1),
}


def rates(blocks: Mapping[str, pa.Table]) -> dict[str, Any]:
    """Pairs that fail, and for each criterion the margins and how likely one below zero is.

    Pairs are seeds 0 and 1, 2 and 3, and so on of each block. The likelihood is that of a further pair if margins are
    normal: Student's t with as many degrees of freedom as pairs less one, the spread widened for that of the mean.
    """
    margins: dict[str, list[float]] = {name: [] for name in CRITERIA}
    for table in blocks.values():
        seeds = sorted(set(table["seed"].to_pylist()))
        column = np.array(table["seed"].to_pylist())
        for first, second in zip(seeds[::2], seeds[1::2], strict=False):
            means = arm_means(table.filter(pa.array(np.isin(column, (first, second)))))
            for name, (key, second_key, sign) in CRITERIA.items():
                margins[name].append(sign * (means[TREATED][key] - means[second_key][key]))
    table_of = np.array(list(margins.values()))  # (criteria, pairs)
    failed = table_of.min(axis=0) <= 0  # equal nats, which the test lets pass, are counted too
    return {
        "pairs": len(failed),
        "failed": int(failed.sum()),
        "criteria": {
            name: {
                "mean": float(np.mean(each)),
                "sd": float(np.std(each, ddof=1)),
                "least": float(min(each)),
                "failed": int(sum(margin <= 0 for margin in each)),
                "likelihood": _below_zero(each),
            }
            for name, each in margins.items()
        },
    }


def _below_zero(margins: list[float]) -> float:
    n = len(margins)
    spread = float(np.std(margins, ddof=1)) * np.sqrt(1 + 1 / n)
    return float(stats.t.cdf(-np.mean(margins) / spread, n - 1)) if spread else float(np.mean(margins) <= 0)
