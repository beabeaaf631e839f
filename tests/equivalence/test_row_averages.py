"""Methods that average rows: the gradient of a batch is that of the authors' formula, however long the rows are."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.models.forward import allow_packing
from curate.optimizers import AdamW
from curate.reweighters import ADAPT, IRDRO, BatchOutputs, GivenWeights, OptimizerBatch, Selective, TrainingRows
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.reweighting import mean_weights
from curate.training.step import TrainingStep
from tests.fixtures.checkpoints import row_loss
from tests.fixtures.models import random_tokens, tiny_model

# Completions of 1 to 90 tokens, so that a mean over tokens is another one than a mean over rows.
LENGTHS = [(5, 90), (1, 1), (30, 2), (3, 40), (12, 1), (2, 7), (8, 61), (4, 3)]
TOKENS = random_tokens(LENGTHS)
GIVEN = [0.5, 3.0, 1.0, 0.0, 2.0, 1.5, 0.25, 4.0]
ROWS = TrainingRows({"w": GIVEN})


def irdro(losses: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """The authors' loss from the mean losses of rows."""
    shares = ((losses.detach() - losses.detach().max()) / strength).exp()
    return (shares / shares.sum() * losses).sum()


def ranked(losses: torch.Tensor, fraction: float, portion: int) -> torch.Tensor:
    """The authors' loss from the mean losses of rows."""
    capacity = int(fraction * len(losses))
    return losses.sort(descending=True).values[portion * capacity : (portion + 1) * capacity].mean()


def weighed(losses: torch.Tensor) -> torch.Tensor:
    return (torch.tensor(GIVEN) / np.mean(GIVEN) * losses).mean()


METHODS: dict[str, tuple[Any, Callable[[torch.Tensor], torch.Tensor]]] = {
    "irdro": (IRDRO(), irdro),
    "sharp irdro": (IRDRO(kl_weight=0.3), lambda losses: irdro(losses, 0.3)),
    "selective": (Selective(fraction=0.25), lambda losses: ranked(losses, 0.25, 1)),
    "highest": (Selective(fraction=0.5, portion=0), lambda losses: ranked(losses, 0.5, 0)),
    "given": (GivenWeights(column="w", averages="rows"), weighed),
}


def oracle(loss_of: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Gradient of an authors' loss of all rows, each through the model by itself."""
    model = tiny_model()
    loss = loss_of(torch.stack([row_loss(model, TOKENS, row) for row in range(len(TOKENS))]))
    return list(torch.autograd.grad(loss, list(model.parameters())))


def found(reweighter: Any, budget: int, packed: bool, tokens: Tokens = TOKENS, model: Any = None) -> list[torch.Tensor]:
    """Gradient of the one optimizer batch in the project's own loop."""
    model = model or tiny_model()
    assert not packed or allow_packing(model)
    config = TrainConfig(
        steps=1, batch_size=len(tokens), precision="float32", max_grad_norm=None, micro_batch_tokens=budget
    )
    update = TrainingStep(model, tokens, config, torch.device("cpu"), packed)
    update.pass_cost = 10_000  # parts are as large as the budget allows
    update.reweight(reweighter, ROWS)
    update.run(SimpleNamespace(step=lambda closure: closure()), 0)  # type: ignore[arg-type]
    assert (len(update.parts) == 1) == (budget > 1000)
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("budget", [10_000, 100], ids=["one micro-batch", "several"])
@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_a_batch_is_that_of_the_authors_loss(name: str, budget: int, packed: bool) -> None:
    reweighter, loss_of = METHODS[name]
    for ours, theirs in zip(found(reweighter, budget, packed), oracle(loss_of), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_equal_losses_are_the_plain_mean_over_rows() -> None:
    """A model that knows nothing has the same loss everywhere: then no weight may change the size of a step."""
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    mean = torch.stack([row_loss(model, TOKENS, row) for row in range(len(TOKENS))]).mean()
    expected = torch.autograd.grad(mean, list(model.parameters()))
    for ours, theirs in zip(found(IRDRO(kl_weight=0.1), 100, True, model=model), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


rows = st.lists(st.tuples(st.floats(0, 20, width=32), st.integers(1, 5000)), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(rows, st.sampled_from([name for name in METHODS if name != "given"]))
def test_token_weights_come_to_the_authors_loss(batch: list[tuple[float, int]], name: str) -> None:
    reweighter, loss_of = METHODS[name]
    assert reweighter.averages == "rows"
    losses, tokens = torch.tensor([each for each, _ in batch]), torch.tensor([n for _, n in batch])
    weights = reweighter.weights(OptimizerBatch(0, tokens), BatchOutputs(losses))
    coefficients = weights.double() * tokens / tokens.sum()
    assert float(coefficients.sum()) == pytest.approx(1, rel=1e-5)
    if name in ("irdro", "sharp irdro") or len(batch) >= 8:  # fewer than the authors' code has a portion for
        loss = float((coefficients * losses).sum())
        assert loss == pytest.approx(float(loss_of(losses.double())), rel=1e-4, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(1, 5000)), min_size=1, max_size=40))
def test_adapt_that_keeps_the_size_of_updates_keeps_it_over_tokens(batch: list[tuple[float, int]]) -> None:
    similarity, tokens = torch.tensor([each for each, _ in batch]), torch.tensor([n for _, n in batch])
    weights = ADAPT(anchors="a", tau=0.05, mean_one=True)._weights(similarity, tokens)
    assert float((weights.double() * tokens).sum() / tokens.sum()) == pytest.approx(1, rel=1e-5)


def test_the_record_holds_the_weights_of_the_method() -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Watching:
        averages = "rows"

        def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
            assert batch.rows is not None
            seen.append((batch.rows.numpy(), (outputs.losses.softmax(0) * len(outputs.losses)).numpy()))
            return IRDRO().weights(batch, outputs)

    config = TrainConfig(steps=6, batch_size=3, learning_rate=1e-2, precision="float32", optimizer=AdamW(eps=1e-3))
    (last,) = train(tiny_model(), TOKENS, config, checkpoint_steps=[6], reweighter=Watching())
    assert last.reweighting is not None
    means, times = mean_weights(last.reweighting.state())
    sums = np.zeros(len(TOKENS))
    for drawn, weights in seen:
        np.add.at(sums, drawn, weights)
    np.testing.assert_allclose(means, sums / times, rtol=1e-4)
    assert (means @ times) / times.sum() == pytest.approx(1, abs=1e-5)
