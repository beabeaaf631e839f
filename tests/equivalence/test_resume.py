"""A resumed run ends bitwise like an undisturbed one, whatever the optimizer and the reweighter keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curate.optimizers import SAM, AdamW, FunctionalSAM, Muon
from curate.tokenization.tokens import Tokens
from curate.training.loop import train
from tests.fixtures import reweighting
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.reweighting import COLUMNS, STATEFUL
from tests.fixtures.training import LENGTHS, config, dropping, run, weights

OPTIMIZERS = {
    "adamw": AdamW(),
    "sam": SAM(),
    "muon": Muon(),
    "sam around muon": SAM(base=Muon()),
    "functional sam": FunctionalSAM(base=AdamW(), preconditioned=True),
    "functional sam around muon": FunctionalSAM(base=Muon(), preconditioned=True),
}


@pytest.fixture
def tokens() -> Tokens:
    return random_tokens(LENGTHS, invalid=[3, 17])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_any_optimizer(name: str, tokens: Tokens, tmp_path: Path) -> None:
    settings = config(optimizer=OPTIMIZERS[name], horizon_steps=9)
    whole = dropping()
    losses = run(whole, tokens, settings)
    for checkpoint in train(dropping(), tokens, settings, checkpoint_steps=[3]):
        checkpoint.save(tmp_path)
        break  # killed here
    resumed = dropping(seed=9)  # weights of its own, to be replaced
    checkpoints = list(train(resumed, tokens, settings, checkpoint_steps=[1, 3, 5, 6], resume=tmp_path))
    assert [checkpoint.step for checkpoint in checkpoints] == [3, 5, 6]
    assert checkpoints[-1].losses == losses
    assert torch.equal(weights(resumed), weights(whole))


def test_with_tied_weights_and_another_architecture(tokens: Tokens, tmp_path: Path) -> None:
    settings = config(optimizer=Muon(), warmup_ratio=0.0)
    whole = tiny_model("gpt2")
    losses = run(whole, tokens, settings)
    for checkpoint in train(tiny_model("gpt2"), tokens, settings, checkpoint_steps=[2]):
        checkpoint.save(tmp_path)
        break
    resumed = tiny_model("gpt2", seed=9)
    assert run(resumed, tokens, settings, resume=tmp_path) == losses
    assert torch.equal(weights(resumed), weights(whole))


def test_a_run_can_be_lengthened_within_its_horizon(tokens: Tokens, tmp_path: Path) -> None:
    whole, model = dropping(), dropping()
    run(whole, tokens, config(horizon_steps=9))
    for checkpoint in train(model, tokens, config(steps=2, horizon_steps=9), checkpoint_steps=[2]):
        checkpoint.save(tmp_path)
    run(model, tokens, config(horizon_steps=9), resume=tmp_path)
    assert torch.equal(weights(model), weights(whole))


@pytest.mark.parametrize("name", STATEFUL)
def test_with_any_reweighter(name: str, tmp_path: Path) -> None:
    settings = reweighting.config(steps=7)
    shared: dict[str, Any] = {"reweighter": STATEFUL[name], "rows": reweighting.rows_of(**COLUMNS)}
    whole, resumed = tiny_model(), tiny_model(seed=4)
    for checkpoint in train(whole, reweighting.TOKENS, settings, checkpoint_steps=[3, 7], **shared):
        if checkpoint.step == 3:
            checkpoint.save(tmp_path)
    *_, again = train(resumed, reweighting.TOKENS, settings, checkpoint_steps=[7], resume=tmp_path, **shared)
    assert again.losses == checkpoint.losses
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(again.reweighting.sums, checkpoint.reweighting.sums)
    assert int(again.reweighting.times.sum()) == 7 * 8
