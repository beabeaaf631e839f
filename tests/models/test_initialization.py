"""Random weights are told from trained ones by their norms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curate.models.initialization import has_initial_weights
from tests.fixtures.models import tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_initial_until_the_first_update(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
    model.save_pretrained(tmp_path / "random")
    assert has_initial_weights(tmp_path / "random")
    scale = next(parameter for name, parameter in model.named_parameters() if name.endswith("norm.weight"))
    scale.data[0] += 0.01
    model.save_pretrained(tmp_path / "trained")
    assert not has_initial_weights(tmp_path / "trained")
    assert not has_initial_weights(tmp_path)  # nothing to tell it by
    (tmp_path / "cut.safetensors").write_bytes(b"x")
    assert not has_initial_weights(tmp_path)
