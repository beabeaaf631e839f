"""ErrorNorm and token accuracy against the model's own probabilities."""

import numpy as np
import pytest
import torch

from scorers import (
    ErrorNorm,
)
from scorers.forgetting import TokenAccuracy
from tests.fixtures.checkpoints import checkpoint_of, row_logits
from tests.fixtures.models import tiny_model
from tests.fixtures.scored import ROWS, TOKENS, VALID

# -- error norm and forgetting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi"])
def test_error_norm_and_accuracy_by_the_models_own_probabilities(family: str) -> None:
    model = tiny_model(family)
    for parameter in model.parameters():
        parameter.data.mul_(2.0)  # or nothing would be predicted right
    tokens = TOKENS
    for row in VALID[:3]:  # rows that repeat themselves are predicted in part
        low, high = tokens.offsets[row : row + 2]
        tokens.ids[low:high] = tokens.ids[low]
    checkpoint = checkpoint_of(model, tokens)
    norms = ErrorNorm().measure(checkpoint, ROWS)
    accuracy = TokenAccuracy().measure(checkpoint, ROWS)
    with torch.no_grad():
        for row in VALID:
            logits, targets = row_logits(model, tokens, int(row))
            error = logits.softmax(1) - torch.nn.functional.one_hot(targets, logits.shape[1])
            assert norms[row, 0] == pytest.approx(error.norm(dim=1).mean().item(), abs=1e-4)
            assert accuracy[row, 0] == pytest.approx((logits.argmax(1) == targets).float().mean().item(), abs=1e-6)
    for found in (norms, accuracy):
        assert found.shape == (6, 1)
        np.testing.assert_array_equal(np.isnan(found[:, 0]), ~tokens.valid)
    assert (norms[VALID] <= np.sqrt(2) + 1e-6).all()
