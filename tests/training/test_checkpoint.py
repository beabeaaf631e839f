"""Checkpoints: weights load elsewhere, and another run is not resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from curate.errors import InputError
from curate.models.modes import state_tensors
from curate.tokenization.tokens import Tokens
from curate.training.checkpoint import load_weights
from curate.training.loop import train
from tests.fixtures.models import tiny_model
from tests.fixtures.training import config, run

# -- saving and going on -----------------------------------------------------------------------------------------


def test_saved_weights_load_here_and_in_transformers(tokens: Tokens, tmp_path: Path) -> None:
    model = tiny_model("llama_tied")
    for checkpoint in train(model, tokens, config(), checkpoint_steps=[2]):
        checkpoint.save(tmp_path, resumable=False)
        kept = {name: tensor.clone() for name, tensor in state_tensors(model).items()}
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    other = tiny_model("llama_tied", seed=1)
    load_weights(other, tmp_path)
    model.config.save_pretrained(tmp_path)
    third = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for loaded in (other, third):
        found = state_tensors(loaded)
        assert found.keys() == kept.keys()
        assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_resuming_another_run_is_refused(tokens: Tokens, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trainer.json cannot be read .*; remove "):
        run(tiny_model(), tokens, config(), resume=tmp_path)
    for checkpoint in train(tiny_model(), tokens, config(), checkpoint_steps=[4]):
        checkpoint.save(tmp_path)
    with pytest.raises(InputError, match="horizon_steps=6, now it is 8"):
        run(tiny_model(), tokens, config(steps=8), resume=tmp_path)
    with pytest.raises(InputError, match=r"learning_rate=0.01, now it is 0.02"):
        run(tiny_model(), tokens, config(learning_rate=2e-2), resume=tmp_path)
    with pytest.raises(InputError, match="trained on other data"):
        run(tiny_model(), tokens.slice(0, 30), config(), resume=tmp_path)
    with pytest.raises(InputError, match="at step 4"):
        run(tiny_model(), tokens, config(steps=3, horizon_steps=6), resume=tmp_path)
    with pytest.raises(InputError, match=r"weight \S+ (is in the|has shape)"):
        run(tiny_model(intermediate_size=40), tokens, config(), resume=tmp_path)
