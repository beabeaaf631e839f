"""Token losses and their gradients over blocks of the vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from curate.models import cross_entropy as head
from curate.models.cross_entropy import LogitMap, token_losses


@pytest.mark.parametrize("logit_map", [LogitMap(), LogitMap(0.3), LogitMap(1.0, 2.0), LogitMap(0.5, 3.0)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_token_losses_over_blocks_of_the_vocabulary(
    monkeypatch: pytest.MonkeyPatch, logit_map: LogitMap, with_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(shape, generator=generator) for shape in ((17, 8), (301, 8), (301,))]
    hidden, weight, bias = (leaf.requires_grad_() for leaf in leaves)
    targets = torch.randint(0, 301, (17,), generator=generator)
    upstream = torch.randn(17, generator=generator)
    logits = hidden @ weight.t() + (bias if with_bias else 0)
    logits = logits * logit_map.scale
    if logit_map.softcap is not None:
        logits = logit_map.softcap * torch.tanh(logits / logit_map.softcap)
    wanted = [hidden, weight, bias] if with_bias else [hidden, weight]
    expected = F.cross_entropy(logits, targets, reduction="none")
    expected_gradients = torch.autograd.grad(expected, wanted, upstream)
    for smallest, budget in ((1, 1), (64, 1), (512, 1 << 20)):  # many blocks, some, one
        monkeypatch.setattr(head, "SMALLEST_BLOCK", smallest)
        monkeypatch.setattr(head, "CPU_BLOCK", budget)
        found = token_losses(hidden, weight, bias if with_bias else None, targets, logit_map)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(found, wanted, upstream), expected_gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_token_losses_survive_extreme_logits() -> None:
    hidden = torch.tensor([[1e4], [-1e4], [0.0]])
    weight = torch.tensor([[1.0], [-1.0], [0.5]])
    found = token_losses(hidden, weight, None, torch.tensor([0, 0, 2]), LogitMap())
    torch.testing.assert_close(found, torch.tensor([0.0, 2e4, np.log(3.0)], dtype=torch.float32))
