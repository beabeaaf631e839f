"""Plots of a comparison: what is drawn is what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from curate.comparison.figures import _POINTS, Curve, arm_colors, curves, curves_of
from curate.comparison.runs import ArmRun


def run_of(lines: list[dict[str, float | None]]) -> ArmRun:
    return ArmRun("run", {"arm": "hard", "seed": 0}, {}, lines)


def test_long_curves_are_averaged_and_short_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    for n in (_POINTS, 5 * _POINTS):
        loss = rng.random(n)
        lines = [{"tokens": 10.0 * k, "loss": value, "gradient_norm": None} for k, value in enumerate(loss)]
        (curve,) = curves_of({"steps": {"hard": {0: run_of(lines)}}})
        assert curve.loss.tolist() == pytest.approx(loss.reshape(_POINTS, -1).mean(axis=1).tolist())
        assert len(curve.tokens) == _POINTS
        assert np.isnan(curve.gradient_norm).all()
        assert curves([curve], "gradient_norm", arm_colors(["hard"], "original"))["data"] == []


def test_a_run_without_metrics_has_no_curve() -> None:
    assert curves_of({None: {"hard": {0: run_of([])}}}) == ()


def test_steps_without_a_finite_loss_are_not_drawn() -> None:
    curve = Curve("hard", None, 0, np.arange(3.0), np.array([2.0, np.inf, 1.0]), np.ones(3))
    (line,) = curves([curve], "loss", arm_colors(["hard"], "original"))["data"]
    assert (line["x"], line["y"]) == ([0.0, 2.0], [2.0, 1.0])


def test_arms_differ_in_color_or_dash_whatever_their_order() -> None:
    arms = [f"arm{k}" for k in range(8)]
    colors = arm_colors(["original", *arms], "original")
    assert len(set(colors.values())) == 9
    assert colors == arm_colors([*arms, "original"], "original")
