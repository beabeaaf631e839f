"""AdamW takes rate and decay from training, unless it has its own."""

from __future__ import annotations

from curate.optimizers import AdamW
from curate.optimizers.adamw import trainable
from tests.fixtures.arithmetic import RATE, built, problem
from tests.fixtures.models import tiny_model


def test_adamw_takes_rate_and_decay_from_training_unless_it_has_its_own() -> None:
    model, _ = problem()
    inherited = built(AdamW(), model, weight_decay=0.1)
    own = built(AdamW(learning_rate=0.5, weight_decay=0.0), model, weight_decay=0.1)
    assert [(g["param_names"], g["initial_lr"], g["weight_decay"]) for g in inherited.param_groups] == [
        (["weight"], RATE, 0.1),
        (["bias"], RATE, 0.0),
    ]
    assert {(g["initial_lr"], g["weight_decay"]) for g in own.param_groups} == {(0.5, 0.0)}


def test_trainable_parameters_come_once_in_the_order_of_the_model() -> None:
    model = tiny_model("llama_tied")
    model.model.norm.weight.requires_grad_(False)
    names = [name for name, _ in trainable(model)]
    assert names == [name for name, _ in model.named_parameters() if name != "model.norm.weight"]
    assert names[0] == "model.embed_tokens.weight"
    assert "lm_head.weight" not in names
