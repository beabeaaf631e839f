"""Outcome of a study: paired differences of arms over blocks, and whether they are a success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

# Primary outcome: nats per token on the questions mixed as the training rows, pooled over tokens, mean over the seeds
# of a block. Success: `hard` has less than `original` AND less than `random` (paired t over blocks, two-sided, in that
# direction) AND is not worse than `source-balanced` (by 3 % at most, and no interval wholly above zero). The p of a
# study is the larger of the first two, since both must hold; those of the studies are adjusted together (Holm).

TREATED, BASELINE, CONTROL, BALANCED = "hard", "original", "random", "source-balanced"
PRIMARY = ("mixture", "nats")
MEASURES = (PRIMARY, ("balanced", "nats"), ("mixture", "right"), ("balanced", "right"))
NOT_WORSE = 0.03


def arm_means(block: pa.Table) -> dict[str, dict[tuple[str, str], float]]:
    """arm -> (set, measure) -> mean over the seeds of a block; a measure that was not taken is NaN."""
    frame = block.to_pandas()
    means: dict[str, dict[tuple[str, str], float]] = {}
    for arm, rows in frame.groupby("arm"):
        by_seed = [
            {
                **{(name, "nats"): float(np.average(part["nats"], weights=part["tokens"])) for name, part in sets},
                **{(name, "right"): float(part["right"].astype(float).mean()) for name, part in sets},
            }
            for _, of_seed in rows.groupby("seed")
            for sets in [list(of_seed.groupby("set"))]
        ]
        means[str(arm)] = {key: float(np.mean([each[key] for each in by_seed])) for key in by_seed[0]}
    return means


def paired(arm: Sequence[float], baseline: Sequence[float], more: bool = False) -> dict[str, float | int | None]:
    """Mean difference over blocks with its 95 % interval (Student), relative to the mean of `other`, and p.

    more: whether more is better; then `better_in` counts blocks with a difference above zero.
    """
    differences = np.array(arm, float) - np.array(baseline, float)  # (b,)
    n, mean = len(differences), float(differences.mean())
    better = int(((differences > 0) if more else (differences < 0)).sum())
    base = float(np.mean(baseline))
    result: dict[str, float | int | None] = {"blocks": n, "base": base, "difference": mean, "relative": mean / base}
    if n < 2:
        return {**result, "low": None, "high": None, "p": None, "better_in": better}
    error = float(differences.std(ddof=1) / np.sqrt(n))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    ends = {"low": mean - half, "high": mean + half}
    return {**result, **ends, "p": p, "better_in": better}


def judged(blocks: Mapping[str, pa.Table]) -> dict[str, Any]:
    """All comparisons of a study's blocks, and its success as far as they go."""
    means = {block: arm_means(table) for block, table in blocks.items()}
    arms = [arm for arm in next(iter(means.values())) if all(arm in each for each in means.values())]
    rows = []
    for where, measure in MEASURES:
        for arm in arms:
            for compared_arm in (BASELINE, CONTROL, BALANCED):
                wanted = arm != compared_arm and compared_arm in arms and (compared_arm == BASELINE or arm == TREATED)
                if wanted:
                    pair = [[each[name][where, measure] for each in means.values()] for name in (arm, compared_arm)]
                    if np.isfinite(pair).all():
                        about = {"arm": arm, "against": compared_arm, "set": where, "measure": measure}
                        rows.append({**about, **paired(*pair, more=measure == "right")})
    return {"blocks": list(blocks), "comparisons": rows, **_success(rows)}


def _success(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chief = {row["against"]: row for row in rows if row["arm"] == TREATED and (row["set"], row["measure"]) == PRIMARY}
    needed = [chief[each] for each in (BASELINE, CONTROL)]
    if any(row["p"] is None for row in needed) or BALANCED not in chief:
        return {"p": None, "success": None}
    p = max(row["p"] if row["difference"] < 0 else 1.0 for row in needed)
    balanced = chief[BALANCED]
    not_worse = balanced["relative"] <= NOT_WORSE and not balanced["low"] > 0
    return {"p": p, "better": p < 0.05, "not_worse_than_balanced": bool(not_worse), "success": p < 0.05 and not_worse}
