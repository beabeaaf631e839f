"""AdamW takes rate and decay from training, unless it has its own."""

from __future__ import annotations

from curate.optimizers import AdamW
from tests.fixtures.arithmetic import RATE, built, problem


def test_adamw_takes_rate_and_decay_from_training_unless_it_has_its_own() -> None:
    model, _ = problem()
    inherited = built(AdamW(), model, weight_decay=0.1)
    own = built(AdamW(learning_rate=0.5, weight_decay=0.0), model, weight_decay=0.1)
    assert [(g["param_names"], g["initial_lr"], g["weight_decay"]) for g in inherited.param_groups] == [
        (["weight"], RATE, 0.1),
        (["bias"], RATE, 0.0),
    ]
    assert {(g["initial_lr"], g["weight_decay"]) for g in own.param_groups} == {(0.5, 0.0)}
