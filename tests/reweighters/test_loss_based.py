"""Weights by losses: each formula against hand-made values and naive loops."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import numpy as np
import pytest
import torch

from curate.models.batches import make_batch
from curate.reweighters import (
    IRDRO,
    BatchOutputs,
    DynamicLoss,
    OptimizerBatch,
    Selective,
    example_losses,
)
from tests.fixtures.models import tiny_model
from tests.fixtures.reweighting import TOKENS, asked

# -- from losses alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"), [("linupper", [0, 1, 1]), ("quadratic", [0, 1, 0]), ("extremes", [1, 0, 1])]
)
def test_dynamic_loss_shapes_the_lowest_the_middle_and_the_highest_loss(strategy: Any, expected: list[float]) -> None:
    reweighter = DynamicLoss(strategy=strategy, r=0.5)
    assert reweighter.shape(torch.tensor([-1.0, 0.0, 1.0])).tolist() == expected
    weights = asked(reweighter, [1.0, 2.0, 3.0])  # h = -1, 0, 1
    shares = np.exp(np.array(expected) / 0.5)
    assert np.allclose(weights, 3 * shares / shares.sum(), atol=1e-6)


def test_linupper_is_linear_below_the_middle_and_flat_above() -> None:
    shape = DynamicLoss().shape(torch.linspace(-1, 1, 9))
    assert torch.allclose(shape, torch.tensor([0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]))


@pytest.mark.parametrize("reweighter", [DynamicLoss(strategy="extremes", r=0.1), IRDRO(kl_weight=0.1)])
def test_equal_losses_weigh_one(reweighter: Any) -> None:
    assert torch.allclose(asked(reweighter, [1.5] * 5), torch.ones(5))


def test_dynamic_loss_is_uniform_at_first() -> None:
    reweighter = DynamicLoss(uniform_steps=3)
    assert asked(reweighter, [0.1, 5.0], step=2).tolist() == [1, 1]
    assert asked(reweighter, [0.1, 5.0], step=3).tolist() != [1, 1]


def test_irdro_is_the_worst_mixture_less_its_divergence_from_uniform() -> None:
    losses, strength = torch.tensor([0.3, 1.7, 0.9, 2.2], dtype=torch.float64), 0.7

    def value(p: torch.Tensor) -> float:
        return float(p @ losses - strength * (p * (p * 4).log()).sum())

    weights = IRDRO(kl_weight=strength).weights(OptimizerBatch(0, torch.ones(4)), BatchOutputs(losses))
    assert float(weights.sum()) == pytest.approx(4)
    assert (weights.argsort() == losses.argsort()).all()
    best = value(weights / 4)
    draws = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(4), 500))
    assert all(value(p) <= best + 1e-12 for p in draws)
    assert torch.allclose(asked(IRDRO(kl_weight=1e6), [0.3, 9.0]), torch.ones(2), atol=1e-4)
    assert torch.allclose(asked(IRDRO(kl_weight=1e-3), [0.3, 9.0]), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("reweighter", [IRDRO(kl_weight=1e-30), DynamicLoss(strategy="linupper", r=1e-40)])
def test_the_smallest_scale_leaves_the_highest_alone(reweighter: Any) -> None:
    assert asked(reweighter, [1e9, 1.0, 2.0]).tolist() == [3, 0, 0]


def test_selective_takes_one_portion_of_the_sorted_losses() -> None:
    losses = [5.0, 1.0, 4.0, 2.0, 3.0, 0.5, 0.2, 0.1]
    assert asked(Selective(fraction=0.25, portion=0), losses).tolist() == [4, 0, 4, 0, 0, 0, 0, 0]
    assert asked(Selective(fraction=0.25, portion=1), losses).tolist() == [0, 0, 0, 4, 4, 0, 0, 0]
    assert asked(Selective(fraction=0.25, portion=9), losses).tolist() == [0, 0, 0, 0, 0, 0, 4, 4]
    assert asked(Selective(fraction=0.125), [1.0, 2.0]).tolist() == [
        2,
        0,
    ]  # at least one, and the last portion there is
    assert asked(Selective(fraction=0.5, portion=0), [1.0, 1.0, 1.0, 1.0]).tolist() == [2, 2, 0, 0]


def test_example_losses_are_those_of_transformers() -> None:
    model = tiny_model()
    batch = make_batch(TOKENS, [0, 1, 5])
    logits = model(input_ids=batch.input_ids).logits
    losses, tokens = example_losses(logits, batch.labels)
    assert losses.requires_grad
    for i in range(3):
        alone = model(input_ids=batch.input_ids[i : i + 1], labels=batch.labels[i : i + 1]).loss
        assert losses[i].item() == pytest.approx(alone.item(), abs=1e-5)
    assert tokens.tolist() == TOKENS.completion_tokens[[0, 1, 5]].tolist()


def _shown() -> str:
    lines = inspect.cleandoc(example_losses.__doc__ or "").splitlines()
    first = lines.index("    import torch")
    last = max(number for number, line in enumerate(lines) if line.startswith("    "))
    return textwrap.dedent("\n".join(lines[first : last + 1]))


def test_the_loop_shown_runs_and_weighs() -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(_shown(), "documentation", "exec"), names)
    assert names["step"] == 4
    weights, losses = names["weights"].numpy(), names["losses"].detach().numpy().astype(np.float64)
    low, high = losses.min(), losses.max()
    shape = np.minimum((2 * losses - high - low) / (high - low) + 1, 1)  # arXiv 2502.06733, linupper, r = 1
    np.testing.assert_allclose(weights, 8 * np.exp(shape) / np.exp(shape).sum(), rtol=1e-4)
    assert names["tokens"].tolist() == [10] * 8
    np.testing.assert_allclose(names["loss"].item(), (weights * losses).mean(), rtol=1e-5)


def test_the_loop_shown_is_short() -> None:
    assert len([line for line in _shown().splitlines() if line.strip()]) <= 20
