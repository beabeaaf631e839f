"""Embeddings are weighted means of a model's last hidden states, whatever the layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.models.batches import make_batch, pack_batch
from curate.models.embeddings import embedded_losses, embeddings_of
from curate.models.forward import allow_packing, batch_losses
from curate.tokenization.tokens import Tokens
from tests.fixtures.models import random_tokens, tiny_model, with_prefix

TOKENS = random_tokens([(5, 7), (3, 30), (1, 0), (20, 40), (4, 4)], invalid=[2, 4])


def oracle(model: Any, tokens: Tokens) -> torch.Tensor:
    """(n, d) by transformers alone, one row at a time; zero for a row of one token."""
    rows = []
    for low, high in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True):
        ids = torch.from_numpy(tokens.ids[low:high].astype(np.int64))[None]
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, :-1]
        place = torch.arange(1, len(states) + 1, dtype=torch.float32)
        rows.append(place / place.sum() @ states if len(states) else torch.zeros(states.shape[1]))
    return torch.stack(rows)


@pytest.mark.parametrize("tokens", [TOKENS, with_prefix(20)], ids=["rows", "rows with a shared prefix"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("family", ["llama_tied", "gpt_neox", "gemma2"])
def test_embeddings_are_the_weighted_mean_of_the_states(family: str, layout: str, tokens: Tokens) -> None:
    model = tiny_model(family).train()
    if layout == "packed":
        assert allow_packing(model)
    make = pack_batch if layout == "packed" else make_batch
    for budget in (1, 100, 10_000):
        found = embeddings_of(model, tokens, device=torch.device("cpu"), half=False, budget=budget, make_batch=make)
        torch.testing.assert_close(found, oracle(tiny_model(family), tokens), rtol=1e-4, atol=1e-5)
    assert model.training


@pytest.mark.parametrize("make", [make_batch, pack_batch])
def test_losses_with_embeddings_are_the_same_bits_as_losses_alone(make: Any) -> None:
    model = tiny_model()
    assert allow_packing(model)
    batch = make(TOKENS, np.arange(len(TOKENS)))
    losses, embeddings = embedded_losses(model, batch, torch.from_numpy(TOKENS.lengths))
    assert torch.equal(losses, batch_losses(model, batch))
    assert losses.requires_grad
    assert not embeddings.requires_grad


def test_a_model_without_a_linear_head_is_refused() -> None:
    model = tiny_model()
    model.set_output_embeddings(torch.nn.Identity())
    with pytest.raises(InputError, match="LM head is not a plain linear layer"):
        embedded_losses(model, make_batch(TOKENS, [0]), torch.tensor([12]))
