"""SAMSharpness against a naive loop."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curate.proxy.trace import measure_checkpoints
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import SAMSharpness
from tests.fixtures.checkpoints import checkpoint_of, row_gradient, row_loss
from tests.fixtures.models import tiny_model
from tests.fixtures.scored import PROXY, ROWS, TOKENS, VALID, additions

# -- sharpness with an ascent of each example's own -----------------------------------------------------------------


@pytest.mark.parametrize(("adaptive", "rho"), [(False, 0.3), (True, 2.0)])
@pytest.mark.parametrize("family_name", ["llama", "gpt_neox"])
def test_own_ascent_against_a_naive_loop(adaptive: bool, rho: float, family_name: str) -> None:
    import copy

    model = tiny_model(family_name)
    before = copy.deepcopy(model.state_dict())
    found = SAMSharpness(ascent="example", rho=rho, adaptive=adaptive).measure(checkpoint_of(model, TOKENS), ROWS)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    for row in VALID:
        uphill = copy.deepcopy(model)
        gradient = row_gradient(uphill, TOKENS, int(row))
        with torch.no_grad():
            scale = {n: p.abs() if adaptive else torch.ones_like(p) for n, p in uphill.named_parameters()}
            norm = torch.sqrt(sum(((scale[n] * g) ** 2).sum() for n, g in gradient.items()))
            for name, parameter in uphill.named_parameters():
                parameter += rho * scale[name] ** 2 * gradient[name] / norm
            expected = [row_loss(model, TOKENS, int(row)).item(), row_loss(uphill, TOKENS, int(row)).item()]
        np.testing.assert_allclose(found[row], expected, atol=2e-4, rtol=1e-4)
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), ~TOKENS.valid)


def test_own_ascent_is_the_steepest_and_to_first_order_the_gradients_norm() -> None:
    model, rho = tiny_model(), 1e-3
    found = SAMSharpness(ascent="example", rho=rho).measure(checkpoint_of(model, TOKENS), ROWS)
    shared = SAMSharpness(ascent="batch", rho=rho).measure(checkpoint_of(model, TOKENS), ROWS)
    rise, rise_shared = (each[:, 1] - each[:, 0] for each in (found, shared))
    for row in VALID:
        norm = torch.sqrt(sum((g**2).sum() for g in row_gradient(model, TOKENS, int(row)).values())).item()
        assert rise[row] == pytest.approx(rho * norm, rel=0.05)
        assert rise[row] > rise_shared[row]


def test_sharpness_against_an_independent_oracle(tmp_path: Path) -> None:
    """Loss at w + rho g / ||g|| with g from a batch-of-one loop over Hugging Face's own loss."""
    from curate.models.scratch import scratch_model, scratch_tokenizer

    examples = additions(12)
    run = Run(PROXY, tmp_path)
    pair = measure_checkpoints(examples, PROXY, [SAMSharpness(rho=0.7)], run).of(SAMSharpness(rho=0.7))[:, -1]
    proxy_training = ProxyTraining(examples, PROXY, run.context)
    tokens = proxy_training.tokenized.tokens
    model = scratch_model(scratch_tokenizer(examples, proxy_training.seed), 64, proxy_training.seed)
    from curate.training.checkpoint import load_weights

    load_weights(model, proxy_training.checkpoint(6))

    def row_loss(i: int) -> torch.Tensor:
        part = tokens.slice(i, i + 1)
        ids = torch.from_numpy(part.ids.astype(np.int64))[None]
        labels = torch.where(torch.from_numpy(part.supervised)[None], ids, -100)
        return model(input_ids=ids, labels=labels).loss

    counts = tokens.completion_tokens
    total = sum(row_loss(i) * int(counts[i]) for i in range(12)) / int(counts.sum())
    total.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
    with torch.no_grad():
        flat = [row_loss(i).item() for i in range(12)]
        for p in model.parameters():
            p += 0.7 * p.grad / norm
        uphill = [row_loss(i).item() for i in range(12)]
    assert np.allclose(pair[:, 0], flat, atol=1e-4)
    assert np.allclose(pair[:, 1], uphill, atol=1e-4)
