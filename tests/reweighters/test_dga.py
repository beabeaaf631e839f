"""DGA: domains whose gradients agree with the target's gain weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.models.batches import make_batch
from curate.reweighters import (
    DGA,
    Training,
)
from curate.reweighters.dga import importance_basis
from curate.tokenization.tokens import Tokens
from curate.training.reweighting import mean_weights
from tests.fixtures.models import tiny_model
from tests.fixtures.reweighting import ANCHORS, asked, rows_of, run, training

# -- DGA ---------------------------------------------------------------------------------------------------------


def patterned(patterns: list[list[int]], rows: int, seed: int = 0) -> Tokens:
    """rows sequences for each pattern of tokens, one after the other: a few random tokens, then the pattern."""
    random = np.random.default_rng(seed)
    parts, supervised, lengths = [], [], []
    for pattern in patterns:
        for _ in range(rows):
            prompt = random.integers(3, 200, 4).tolist()
            parts += prompt + pattern
            supervised += [False] * 4 + [True] * len(pattern)
            lengths.append(4 + len(pattern))
    n = len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(
        np.array(parts, np.int32), np.array(supervised), offsets, np.ones(n, bool), *np.zeros((2, n), np.int32)
    )


PATTERNS = [[20, 21, 22, 23, 24], [60, 61, 62, 63, 64], [101, 102, 103, 104, 105], [150, 151, 152, 153, 154]]


def test_the_domain_that_agrees_with_the_target_gains_weight() -> None:
    """Four domains that share no token; the target continues prompts as the second of them does."""
    tokens, target = patterned(PATTERNS, 12), patterned(PATTERNS[1:2], 10, seed=1)
    domains = np.repeat(["a", "b", "c", "d"], 12).tolist()
    reweighter = DGA(target="t", refresh_every=4, rows_per_gradient=6)
    last = run(tiny_model(), reweighter, tokens, rows_of(target, domain=domains), steps=60, learning_rate=3e-3)
    alpha = last.reweighting.live.alpha
    assert alpha.sum() == pytest.approx(1)
    assert alpha[1] > 0.8
    means, times = mean_weights(last.reweighting.state())
    assert times.sum() == 60 * 8
    assert means[12:24].min() > 1 > means[:12].max()


@pytest.mark.parametrize("alignment", ["dot", "cosine"])
def test_alignment_is_that_of_the_gradients(alignment: Any) -> None:
    tokens, target = patterned(PATTERNS[:2], 5), patterned(PATTERNS[1:2], 5, seed=1)
    model, eta = tiny_model(), 0.3
    settings = DGA(target="t", eta=eta, alignment=alignment, rows_per_gradient=5, smoothing=0.4)
    live = settings.begin(training(model, tokens, rows_of(target, domain=["a"] * 5 + ["b"] * 5)))
    live.refresh(0)

    def gradient(rows: Tokens) -> torch.Tensor:
        oracle = tiny_model()
        batch = make_batch(rows, range(len(rows)))
        oracle(input_ids=batch.input_ids, labels=batch.labels).loss.backward()  # rows of equal length
        return torch.cat([p.grad.flatten() for p in oracle.parameters()])

    z, domains = gradient(target), [gradient(tokens.slice(0, 5)), gradient(tokens.slice(5, 10))]
    a = [float(g @ z / (g.norm() * z.norm() if alignment == "cosine" else 1)) for g in domains]
    raised = 0.5 * np.exp(eta * np.array(a))
    assert np.allclose(live.alpha, 0.6 * 0.5 + 0.4 * raised / raised.sum(), atol=1e-6)
    assert a[1] > a[0]
    live.refresh(1)  # not due
    assert np.allclose(live.alpha, 0.6 * 0.5 + 0.4 * raised / raised.sum(), atol=1e-6)


def test_a_domain_that_lost_all_its_weight_can_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, target = patterned(PATTERNS[:2], 5), patterned(PATTERNS[1:2], 5, seed=1)
    settings = DGA(target="t", eta=1e4, alignment="dot", refresh_every=1)
    live = settings.begin(training(tiny_model(), tokens, rows_of(target, domain=["a"] * 5 + ["b"] * 5)))
    for agreement, expected in (([1.0, -1.0], [1, 0]), ([-1.0, 1.0], [0, 1])):
        monkeypatch.setattr(live, "_agreement", lambda step, found=agreement: np.array(found))
        live.refresh(0)
        assert live.alpha.tolist() == expected


@pytest.mark.parametrize(("basis", "which"), [(None, "domain 'a'"), (2, "mixture 0 of the basis")])
def test_a_domain_whose_gradient_is_not_finite_is_named(basis: int | None, which: str) -> None:
    tokens, target = patterned(PATTERNS[:2], 5), patterned(PATTERNS[1:2], 5, seed=1)
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[PATTERNS[0][0]] = torch.nan
    rows = rows_of(target, domain=["a"] * 5 + ["b"] * 5)
    live = DGA(target="t", basis=basis).begin(training(model, tokens, rows))
    with pytest.raises(InputError, match=f"the gradient of {which} is not finite after 0 steps; lower"):
        live.refresh(0)


def test_a_row_weighs_its_domains_weight_over_its_domains_share() -> None:
    tokens = patterned(PATTERNS[:2], 6)
    live = DGA(target="t").begin(training(tiny_model(), tokens, rows_of(domain=["a"] * 3 + [None] * 9)))
    assert asked(live, [0.0] * 12, rows=list(range(12))).tolist() == pytest.approx([1] * 12)  # before the first look
    live.mixing = np.array([0.1, 0.9])  # (none) sorts before a
    weights = asked(live, [0.0] * 2, rows=[0, 11]).tolist()
    assert weights == pytest.approx([0.9 / 0.25, 0.1 / 0.75])


def test_mixtures_of_the_basis_find_the_domains_of_the_target() -> None:
    tokens = patterned(PATTERNS, 8)
    target = patterned([PATTERNS[0], PATTERNS[3]], 6, seed=2)
    basis = importance_basis(tokens, np.repeat(np.arange(4), 8), target, 3, 0)
    assert basis.shape == (3, 4)
    assert np.allclose(basis.sum(axis=1), 1)
    assert np.allclose(basis[0], 0.25)
    assert sorted(basis[1:].argmax(axis=1).tolist()) == [0, 3]
    assert basis[1:].max(axis=1).min() > 0.9
    with pytest.raises(InputError, match="needs 5 groups of the target, which has 3 rows"):
        importance_basis(tokens, np.repeat(np.arange(4), 8), ANCHORS, 6, 0)


def test_a_basis_moves_many_domains_with_few_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, target = patterned(PATTERNS, 12), patterned(PATTERNS[2:3], 10, seed=1)
    calls = []
    real = Training.gradient
    monkeypatch.setattr(Training, "gradient", lambda self, rows: calls.append(1) or real(self, rows))
    reweighter = DGA(target="t", refresh_every=4, rows_per_gradient=6, basis=2)
    rows = rows_of(target, domain=np.repeat(["a", "b", "c", "d"], 12).tolist())
    last = run(tiny_model(), reweighter, tokens, rows, steps=40, learning_rate=3e-3)
    assert len(calls) == 10 * 3
    assert last.reweighting.live.alpha[2] > 0.8


@pytest.mark.parametrize(
    ("columns", "domains", "message"),
    [
        ({}, None, "no source column; name one with domains=COLUMN"),
        ({"domain": ["a"] * 41}, None, "one value only"),
        ({"domain": ["a"] * 41}, "topic", "reads column 'topic', which the data does not have; its columns: domain"),
    ],
)
def test_domains_that_cannot_serve(columns: Any, domains: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DGA(target="t", domains=domains).begin(training(tiny_model(), rows=rows_of(**columns)))


def test_a_target_without_a_gradient_is_an_error() -> None:
    rows = rows_of(domain=["a", "b"] * 20 + ["a"])
    live = DGA(target="dull.parquet").begin(training(tiny_model(), rows=rows))
    for parameter in live.training.model.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    live.training.model.model.layers[0].mlp.gate_proj.weight.requires_grad_(True)  # behind a product with 0
    with pytest.raises(InputError, match=r"the gradient of the target dull\.parquet is 0 after 0 steps"):
        live.refresh(0)
