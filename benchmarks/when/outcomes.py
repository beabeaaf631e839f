"""From records to outcomes: what an arm changes at a budget, over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.when.settings import BASELINE

# Nats per token of held-out clean completions, and the share of them that is answered exactly. Groups are weighted as
# in the clean training rows ("mixture") or all alike ("balanced").
OUTCOMES = ("nats mixture", "nats balanced", "exact mixture", "exact balanced")
PRIMARY = OUTCOMES[0]


@dataclass(frozen=True)
class Change:
    """An arm against the baseline of the same seeds, at one budget of one setting.

    base, arm: means over seeds. absolute: mean difference, with the half width of its 95 % interval.
    relative: of nats, from the mean of the logarithms of the ratio per seed, with its 95 % interval; of exact answers,
    of the means, None where the baseline has none right. seeds: how many have both arms.
    Of one seed there are no intervals (NaN).
    """

    base: float
    arm: float
    absolute: float
    half: float
    relative: float | None
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Of the absolute difference: "less", "more", or "" where the interval holds zero or there is none."""
        if math.isnan(self.half) or abs(self.absolute) <= self.half:
            return ""
        return "less" if self.absolute < 0 else "more"


def values(run: Mapping[str, Any], step: int, mixture: Mapping[str, float]) -> dict[str, float]:
    """The OUTCOMES of a run after `step` optimizer steps."""
    place = run["steps"].index(step)
    groups = list(mixture)
    weights = np.array([mixture[group] for group in groups])
    nats = np.array([run["nats"][group][place] for group in groups])
    exact = np.array([run["right"][group][place] / run["questions"][group] for group in groups])
    values_by_outcome = {}
    for name, each in (("nats", nats), ("exact", exact)):
        values_by_outcome[f"{name} mixture"] = float(each @ weights / weights.sum())
        values_by_outcome[f"{name} balanced"] = float(each.mean())
    return values_by_outcome


def steps_of(setting: Mapping[str, Any], budget: float) -> int:
    """See `benchmarks.when.settings.Setting.steps`."""
    return max(1, round(budget * setting["unit"]))


def change(blocks: Sequence[Mapping[str, Any]], arm: str, budget: float, outcome: str) -> Change | None:
    """blocks: seeds of one setting; None where no seed has both arms."""
    pairs = []
    for block in blocks:
        if all(block["arms"].get(name, {"steps": []})["steps"] for name in (BASELINE, arm)):
            step = steps_of(block["setting"], budget)
            pairs.append([values(block["arms"][name], step, block["mixture"])[outcome] for name in (BASELINE, arm)])
    if not pairs:
        return None
    base, tried = np.array(pairs).T  # (S,) each
    absolute, half = interval(tried - base)
    relative, low, high = None, math.nan, math.nan
    if outcome.startswith("nats"):
        mean, width = interval(np.log(np.maximum(tried, 1e-9)) - np.log(np.maximum(base, 1e-9)))
        relative, low, high = (math.exp(x) - 1 for x in (mean, mean - width, mean + width))
    elif base.mean() > 0:
        relative = float(tried.mean() / base.mean() - 1)
        low, high = ((absolute + sign * half) / base.mean() for sign in (-1, 1))
    return Change(float(base.mean()), float(tried.mean()), absolute, half, relative, low, high, len(pairs))


def interval(differences: Any, level: float = 0.95) -> tuple[float, float]:
    """Mean and half width of its interval by Student's t; NaN of a single one."""
    n = len(differences)
    mean = float(np.mean(differences))
    if n < 2:
        return mean, math.nan
    return mean, float(student.ppf(0.5 + level / 2, n - 1) * np.std(differences, ddof=1) / math.sqrt(n))


def by_setting(blocks: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(family, name of the setting) -> its blocks, by seed."""
    blocks_by_setting: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for block in blocks:
        blocks_by_setting.setdefault((block["setting"]["family"], block["name"]), []).append(block)
    return {key: sorted(each, key=lambda block: block["seed"]) for key, each in blocks_by_setting.items()}
