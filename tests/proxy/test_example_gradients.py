"""Gradients of single rows, against those by a backward pass of each row alone."""

from typing import Any

import numpy as np
import pytest
import torch

from curate.component import fingerprint
from curate.errors import InputError
from curate.proxy import example_gradients as module
from curate.proxy import predictions
from curate.proxy.example_gradients import GradientParts, example_gradients
from curate.proxy.measures import LiveCheckpoint
from curate.tokenization.tokens import Tokens
from tests.fixtures.checkpoints import checkpoint_of, row_gradient
from tests.fixtures.models import random_tokens, tiny_model

TOKENS = random_tokens([(6, 30), (20, 3), (2, 20), (11, 1), (9, 13), (3, 7)], invalid=[3])
VALID = np.flatnonzero(TOKENS.valid)


def parts_of(**changes: Any) -> GradientParts:
    return GradientParts(**{"parameters": "last-layer", "rank": 8} | changes)


def found_for(checkpoint: LiveCheckpoint, of: GradientParts, tokens: Tokens = TOKENS) -> dict[int, list[torch.Tensor]]:
    """The gradients of each row, by weight."""
    return {
        int(row): [part[place] for part in parts]
        for rows, parts in example_gradients(checkpoint, tokens, of)
        for place, row in enumerate(rows)
    }


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi", "cohere", "granite", "gpt_neox"])
@pytest.mark.parametrize("positions", [5, 1000], ids=["rows in several parts", "rows whole"])
def test_the_last_layer_in_closed_form(family: str, positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "CPU_LOGITS", positions * 211)
    model = tiny_model(family, **({} if family == "phi" else {"tie_word_embeddings": False}))
    found = found_for(checkpoint_of(model, TOKENS), parts_of())
    assert sorted(found) == VALID.tolist()
    name = next(name for name, p in model.named_parameters() if p is model.get_output_embeddings().weight)
    for row, gradient in found.items():
        assert_close(gradient, [row_gradient(model, TOKENS, row)[name]])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "phi"])
def test_every_parameter(family: str) -> None:
    model = tiny_model(family)
    for row, gradient in found_for(checkpoint_of(model, TOKENS), parts_of(parameters="all")).items():
        assert_close(gradient, list(row_gradient(model, TOKENS, row).values()))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma3", "phi3"])
def test_adapters(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """dL/dB of W + B A at B = 0, by backward through W alone: dL/dW A^T."""
    monkeypatch.setitem(module._TOKENS, "cpu", 60)  # several batches
    model = tiny_model(family)
    checkpoint, of = checkpoint_of(model, TOKENS), parts_of(parameters="lora", rank=3)
    found = found_for(checkpoint, of)
    names = [key.removeprefix(f"{fingerprint(of)} ") for key in checkpoint.run_memo]
    assert len(names) == 2 * {"llama": 4, "gpt2": 2, "gpt_neox": 2, "gemma3": 4, "phi3": 2}[family]
    assert sorted(found) == VALID.tolist()
    for row, gradient in found.items():
        whole = row_gradient(model, TOKENS, row)
        by_weight = [whole[f"{name}.weight"] for name in names]
        by_weight = [each.t() for each in by_weight] if family == "gpt2" else by_weight
        factors = [checkpoint.run_memo[f"{fingerprint(of)} {name}"] for name in names]
        assert_close(gradient, [each @ factor for each, factor in zip(by_weight, factors, strict=True)])


def test_a_model_without_attention_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(type(model), "named_modules", lambda self, **_: iter([("model.mixer", self)]))
    with pytest.raises(InputError, match="no linear layers inside modules named attention; choose parameters='last"):
        module._attention_projections(model)
