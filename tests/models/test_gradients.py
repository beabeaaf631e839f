"""The mean gradient of some rows is that of the mean loss per token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.models.batches import make_batch
from curate.models.gradients import mean_gradient
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.reweighting import TOKENS


def test_mean_gradient_is_that_of_the_mean_token() -> None:
    model = tiny_model()
    model.lm_head.weight.grad = kept = torch.ones_like(model.lm_head.weight)
    found = mean_gradient(model, TOKENS, device=torch.device("cpu"), budget=60)
    assert model.lm_head.weight.grad is kept
    oracle = tiny_model()
    for row in np.flatnonzero(TOKENS.valid):
        batch = make_batch(TOKENS, [row])
        count = int(TOKENS.completion_tokens[row])
        (oracle(input_ids=batch.input_ids, labels=batch.labels).loss * count).backward()
    total = int(TOKENS.completion_tokens[TOKENS.valid].sum())
    for gradient, parameter in zip(found, oracle.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad / total, atol=1e-6)
    nothing = random_tokens([(3, 2)], invalid=[0])
    with pytest.raises(InputError, match="no row with completion text"):
        mean_gradient(model, nothing, device=torch.device("cpu"), budget=60)
