"""Predictions part by part are the model's own, for every family and part size; projections keep angles."""

import numpy as np
import pytest
import torch

from curate.proxy import predictions as module
from curate.proxy.predictions import batches, completion_means, predictions, projection
from tests.fixtures.checkpoints import checkpoint_of, row_logits
from tests.fixtures.models import FAMILIES, VOCABULARY, random_tokens, tiny_model

TOKENS = random_tokens([(6, 40), (30, 3), (2, 30), (11, 1), (9, 33), (3, 7)], invalid=[3])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("most", "whole"), [(1, False), (7 * VOCABULARY, False), (1 << 22, False), (1, True)])
def test_parts_are_the_models_own_predictions(
    family: str, most: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CPU_LOGITS", most)
    if whole:
        monkeypatch.setattr(module.models, "logit_map", lambda _model: None)
    model = tiny_model(family)
    checkpoint = checkpoint_of(model, TOKENS)
    rows, logits, targets = [], [], []
    for batch in batches(checkpoint, TOKENS):
        for part in predictions(checkpoint, batch):
            assert whole or len(part.rows) <= max(1, most // VOCABULARY)
            assert (part.hidden is None) == whole
            rows.append(part.rows)
            logits.append(part.logits())
            targets.append(part.targets)
    rows, logits, targets = torch.cat(rows), torch.cat(logits), torch.cat(targets)
    assert sorted(set(rows.tolist())) == [0, 1, 2, 4, 5]
    with torch.no_grad():
        for row in (0, 1, 2, 4, 5):
            expected, follow = row_logits(model, TOKENS, row)
            assert torch.equal(targets[rows == row], follow)
            torch.testing.assert_close(logits[rows == row], expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere", "granite"])
def test_gradients_by_logits_and_by_the_product_before_their_map(family: str) -> None:
    model = tiny_model(family)
    checkpoint = checkpoint_of(model, TOKENS)
    (batch, *_) = batches(checkpoint, TOKENS)
    (part,) = predictions(checkpoint, batch)
    product = (part.hidden @ model.get_output_embeddings().weight.t()).detach().requires_grad_()
    path = part.logit_map
    mapped = (
        path.scale * product if path.softcap is None else path.softcap * (path.scale * product / path.softcap).tanh()
    )
    losses = torch.nn.functional.cross_entropy(mapped, part.targets, reduction="sum")
    by_product, by_logits = torch.autograd.grad(losses, [product, mapped])
    torch.testing.assert_close(part.product_gradients(), by_product, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(part.errors(), by_logits, atol=1e-5, rtol=1e-4)


def test_means_are_over_completion_tokens_and_nothing_else() -> None:
    checkpoint = checkpoint_of(tiny_model(), TOKENS)
    found = completion_means(checkpoint, lambda part: torch.stack([part.targets, part.targets * 0 + 3], dim=1), 2)
    for row in range(len(TOKENS)):
        low, high = TOKENS.offsets[row : row + 2]
        expected = TOKENS.ids[low:high][TOKENS.supervised[low:high]].mean() if TOKENS.valid[row] else np.nan
        np.testing.assert_allclose(found[row], [expected, 3 if TOKENS.valid[row] else np.nan], rtol=1e-6)


def test_what_comes_between_parts_runs_in_the_callers_precision() -> None:
    checkpoint = checkpoint_of(tiny_model(), TOKENS)
    checkpoint.precision = "bfloat16"
    (batch, *_) = batches(checkpoint, TOKENS)
    for part in predictions(checkpoint, batch):
        assert not torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
        assert part.logits().dtype == torch.float32


# -- projections ----------------------------------------------------------------------------------------------------


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


def test_a_projection_keeps_angles_as_its_dimensions_allow() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 40, 3000)
    y = 0.6 * x + 0.8 * y
    for dimensions in (64, 1024):
        matrix = projection(3000, dimensions, 5, "cpu")
        errors = [_cosine(a @ matrix, b @ matrix) - _cosine(a, b) for a, b in zip(x, y, strict=True)]
        assert np.abs(errors).max() < 4 / np.sqrt(dimensions)
        assert np.std(errors) > 0.2 / np.sqrt(dimensions)  # and no better: it is random
    assert torch.equal(matrix, projection(3000, 1024, 5, "cpu"))
    assert not torch.equal(matrix, projection(3000, 1024, 6, "cpu"))
    torch.testing.assert_close(matrix.square().sum(1), torch.ones(3000))
