"""How a batch is cut into forward passes changes nothing: neither the losses nor what a reweighter sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curate.optimizers import SAM, AdamW, FunctionalSAM
from curate.reweighters import DynamicLoss
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.training import LENGTHS, config, run

TOKENS = random_tokens(LENGTHS, invalid=[3, 17])


@pytest.mark.parametrize("reweighter", [None, DynamicLoss()], ids=["plain", "reweighted"])
@pytest.mark.parametrize("optimizer", [AdamW(), SAM(), FunctionalSAM(base=AdamW())], ids=["adamw", "sam", "functional"])
def test_losses_of_a_run(optimizer: Any, reweighter: Any) -> None:
    settings = {"optimizer": optimizer, "max_grad_norm": None}
    whole = run(tiny_model(), TOKENS, config(**settings), reweighter=reweighter)
    for budget in (1, 100):
        parts = run(tiny_model(), TOKENS, config(**settings, micro_batch_tokens=budget), reweighter=reweighter)
        np.testing.assert_allclose(parts, whole, rtol=5e-6)
