"""The operations of a step are counted from its matrices, and the peak of the machine is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from curate.finetuning.flops import flop_counts, peak_rate
from curate.finetuning.lora import LoRA, with_adapter
from tests.fixtures.models import random_tokens, tiny_model


@pytest.mark.parametrize("lora", [None, LoRA()])
def test_operations_are_what_the_matrices_do(lora: LoRA | None) -> None:
    """Against torch's own counter, on one row whose tokens all count. Its attention is not causal: twice the work."""
    model = tiny_model("llama", attn_implementation="eager")
    if lora is not None:
        with_adapter(model, lora, 0)
    model.get_input_embeddings().weight.requires_grad_(True)  # or the first layer's inputs need no gradient
    ids = torch.arange(3, 23)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    counts = {str(op).split(".")[-1]: count for op, count in counter.get_flop_counts()["Global"].items()}
    found = flop_counts(model)
    assert counts["mm"] + counts.get("addmm", 0) == 20 * (found.per_token + found.per_completion_token)
    # Some versions of transformers multiply positions and rotary frequencies as matrices, 0.05 % of the rest here.
    assert counts["bmm"] == pytest.approx(2 * 400 * found.per_square, rel=1e-3)
    tokens = random_tokens([(4, 6), (1, 3)])
    expected = 14 * found.per_token + 9 * found.per_completion_token + (100 + 16) * found.per_square
    assert found.total(tokens, np.array([0, 1])) == pytest.approx(expected)


def test_the_peak_is_measured_once_and_draws_nothing() -> None:
    model = tiny_model("llama", hidden_size=64, intermediate_size=128)
    state = torch.get_rng_state()
    found = peak_rate(model, torch.device("cpu"), torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert found is not None
    assert 1e8 < found < 1e14
    assert peak_rate(model, torch.device("cpu"), torch.float32) == found
    assert peak_rate(tiny_model(), torch.device("cpu"), torch.float32) is None  # too small to tell
