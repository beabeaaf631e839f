"""Learning-rate schedules and the limits of training settings."""

from __future__ import annotations

import pytest
import torch
import transformers

from curate.training.config import learning_rate_factor
from tests.fixtures.training import config


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule_is_that_of_transformers_over_the_horizon(schedule: str) -> None:
    settings = config(steps=40, horizon_steps=90, warmup_ratio=0.1, schedule=schedule)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    name = {"constant": "constant_with_warmup"}.get(schedule, schedule)
    oracle = transformers.get_scheduler(name, optimizer, num_warmup_steps=9, num_training_steps=90)
    for step in range(91):
        assert learning_rate_factor(settings, step) == pytest.approx(oracle.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        oracle.step()


def test_schedule_without_horizon_ends_at_the_last_step() -> None:
    settings = config(steps=20, warmup_ratio=0.0)
    assert learning_rate_factor(settings, 0) == 1.0
    assert learning_rate_factor(settings, 10) == pytest.approx(0.5)
    assert learning_rate_factor(settings, 20) == pytest.approx(0.0, abs=1e-12)


def test_horizon_shorter_than_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="horizon_steps=5 ends before steps=6"):
        config(horizon_steps=5)
