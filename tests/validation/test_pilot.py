"""A pilot run forecasts from the target's own held-out curves, before other arms are trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curate.validation.pilot as pilots
from augmenters import Subset
from curate.difficulty.held_out_curves import HeldOutCurves
from curate.errors import ExternalError
from curate.finetuning.config import Finetuning
from curate.validation.pilot import SEED, in_words, share_of_runs
from tests.fixtures.models import saved
from tests.fixtures.validation import Trained, pipeline, settings, whole


@pytest.fixture
def target(tmp_path: Path) -> Finetuning:
    """A tiny model in a folder, in place of the one that `Trained` pretends to train."""
    saved(tmp_path / "target")
    return Finetuning(model=str(tmp_path / "target"), batch_size=10, max_length=64, learning_rate=1e-2)


def budget_forecast(monkeypatch: pytest.MonkeyPatch, change: float) -> list[HeldOutCurves]:
    """Curves that are passed on, whose hard rows are then made to fall by so much per e-fold, the others not at all."""
    seen = []
    original = pilots.forecast_budget

    def instead(curves: HeldOutCurves, **more: Any) -> Any:
        seen.append(curves)
        losses = np.where(curves.hard[:, None], 2 - change * np.log(curves.steps / curves.steps[0]), 1.0)
        rows = 20
        hard = np.arange(2 * rows) % 2 == 0
        made = [losses[curves.hard == kind][:1].repeat(rows, 0) for kind in (True, False)]
        stacked = np.empty((2 * rows, losses.shape[1]), np.float32)
        stacked[hard], stacked[~hard] = made
        return original(HeldOutCurves(curves.steps, stacked, hard, 0.2, of="target"), **more)

    monkeypatch.setattr(pilots, "forecast_budget", instead)
    return seen


def test_a_pilot_comes_first_is_kept_and_says_numbers(
    tmp_path: Path, trained: Trained, target: Finetuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = budget_forecast(monkeypatch, 0.3)
    fields = {"finetuning": target, "seeds": (0,), "budgets": ("steps",), "pilot": "always", "stop_if": "hopeless"}
    result = whole(tmp_path / "out", **fields)
    (curves,) = seen
    assert curves.of == "target"
    assert np.isfinite(curves.losses).all()
    assert curves.losses[:, -1].mean() < curves.losses[:, 0].mean()  # it was trained
    record = json.loads((tmp_path / "out" / "pilot.json").read_text())
    steps = {each.steps for each in trained.settings.values()}
    assert steps == {record["steps"]} == {int(curves.steps[-1])}
    assert record["rows"] == 3 * record["held_out"] or abs(record["rows"] / record["held_out"] - 3) < 0.5
    assert (result["pilot"]["hopeless"], result["pilot"]["verdict"]["verdict"]) == (False, "withheld")
    assert SEED not in result["seeds"]
    assert {call[0] for call in trained.calls} == {"original", "hard", "random"}
    whole(tmp_path / "out", **{**fields, "seeds": (0, 1)})
    assert len(seen) == 1  # it is not trained again
    said = "\n".join(in_words(record))
    assert record["verdict"]["reason"] in said
    assert "held-out loss of the model itself" in said
    assert "predicted change of the loss on the mixture" in said


def test_hopeless_ends_before_anything_else_is_trained(
    tmp_path: Path, trained: Trained, target: Finetuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget_forecast(monkeypatch, -0.1)  # hard rows are forgotten
    fields = {"finetuning": target, "seeds": (0,), "budgets": ("steps",)}
    result = whole(tmp_path / "out", **fields, stop_if="hopeless")
    assert "no number is predicted to lower the loss" in result["stopped"]
    assert result["pilot"]["hopeless"]
    assert not trained.calls
    assert not (tmp_path / "out" / "run.json").exists()
    assert "stopped" not in whole(tmp_path / "out", **fields)  # the same command without it goes on
    assert trained.calls


def test_a_pilot_is_trained_where_it_is_cheap_or_asked_for(
    tmp_path: Path, trained: Trained, target: Finetuning
) -> None:
    assert settings().pilot == "auto"
    experiment = type("Planned", (), {"settings": settings(seeds=(0, 1, 2))})
    assert share_of_runs(experiment) == pytest.approx(1 / 24)  # type: ignore[arg-type]
    whole(tmp_path / "few", finetuning=target, seeds=(0,))
    assert not (tmp_path / "few" / "pilot.json").exists()
    with pytest.raises(ValueError, match="--stop-if goes by the pilot"):
        settings(stop_if="hopeless", pilot="never")
    with pytest.raises(ValueError, match="a pilot forecasts what copies do"):
        settings(stop_if="hopeless", pipeline=pipeline(Subset(size=0.5)))
    with pytest.raises(ExternalError, match=r"time limit is reached in the pilot run.*--pilot never"):
        whole(tmp_path / "late", finetuning=target, seeds=(0,), pilot="always", time_limit=0.5)
