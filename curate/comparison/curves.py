"""Loss and gradient norm of every run over the tokens it has seen, short enough to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.comparison.runs import Groups
from curate.types import Float64Array

__all__ = ["Curve", "curves_of"]

POINTS = 120


@dataclass(frozen=True)
class Curve:
    """One run: tokens seen (m,), training loss (m,) in nats per token, gradient norm (m,); long runs are averaged."""

    arm: str
    budget: str | None
    seed: int
    tokens: Float64Array
    loss: Float64Array
    gradient_norm: Float64Array


def curves_of(groups: Groups) -> tuple[Curve, ...]:
    found = []
    for budget, members in groups.items():
        for arm, runs in members.items():
            for seed, run in sorted(runs.items()):
                tokens, loss, norm = (_column(run.metrics, name) for name in ("tokens", "loss", "gradient_norm"))
                if len(tokens):
                    found.append(Curve(arm, budget, seed, *(_shortened(each) for each in (tokens, loss, norm))))
    return tuple(found)


def _column(lines: Sequence[Mapping[str, Any]], name: str) -> Float64Array:
    return np.array([np.nan if line.get(name) is None else line[name] for line in lines], np.float64)


def _shortened(values: Float64Array) -> Float64Array:
    if len(values) <= POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, POINTS)])
