"""ADAPT: weights by likeness to anchors, of embeddings or of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import DataWarning, InputError
from curate.reweighters import (
    ADAPT,
    DGA,
    Training,
    TrainingRows,
)
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.reweighting import ANCHORS, TOKENS, asked, flat, naive_embedding, rows_of, run, training

# -- ADAPT -------------------------------------------------------------------------------------------------------


def test_adapt_is_a_sigmoid_of_the_mean_cosine_with_the_anchors() -> None:
    class Keeping(ADAPT):
        def begin(self, training: Training) -> Any:
            live = super().begin(training)
            inner = live.weights
            live.weights = lambda batch, outputs: seen.append((batch, inner(batch, outputs))) or seen[-1][1]
            return live

    seen: list[Any] = []
    run(tiny_model(), Keeping(anchors="a", tau=0.2), steps=1)
    (batch, weights), model = seen[0], tiny_model()
    anchors = torch.stack([naive_embedding(model, ANCHORS, row) for row in range(3)])
    for row, weight in zip(batch.rows.tolist(), weights.tolist(), strict=True):
        cosines = torch.cosine_similarity(naive_embedding(model, TOKENS, row)[None], anchors)
        assert weight == pytest.approx(float((cosines.mean() / 0.2).sigmoid()), abs=1e-5)


@pytest.mark.parametrize("optimizer", [None, "functional"])
def test_adapt_does_not_depend_on_micro_batches(optimizer: str | None) -> None:
    from curate.optimizers import AdamW, FunctionalSAM

    sharp = {"optimizer": FunctionalSAM(base=AdamW(eps=1e-3))} if optimizer else {"optimizer": AdamW(eps=1e-3)}
    results = []
    for budget in (10_000, 60):
        model = tiny_model()
        last = run(model, ADAPT(anchors="a", tau=0.1, refresh_every=2), micro_batch_tokens=budget, steps=4, **sharp)
        results.append((last.losses, flat(model)))
    assert np.allclose(results[0][0], results[1][0], atol=1e-4)
    assert torch.allclose(results[0][1], results[1][1], atol=2e-4)


def test_adapt_can_look_at_differences_and_keep_the_size_of_updates() -> None:
    similarity = torch.tensor([0.90, 0.91, 0.95])
    alike = torch.ones(3, dtype=torch.int64)
    plain = ADAPT(anchors="a", tau=0.1)._weights(similarity, alike)
    assert float(plain.max() / plain.min()) < 1.01
    centered = ADAPT(anchors="a", tau=0.01, centered=True, mean_one=True)
    with pytest.warns(DataWarning, match="centred is called centered now"):
        assert ADAPT(anchors="a", tau=0.01, centred=True, mean_one=True) == centered
    telling = centered._weights(similarity, alike)
    assert float(telling.max() / telling.min()) > 5
    assert float(telling.mean()) == pytest.approx(1)
    similarity = torch.tensor([-0.3, 0.1, 0.2])
    kept = ADAPT(anchors="a", tau=0.1, mean_one=True)._weights(similarity, alike)
    sigmoids = (similarity / 0.1).sigmoid()
    assert torch.allclose(kept, sigmoids / sigmoids.mean())
    far = ADAPT(anchors="a", tau=1e-3, mean_one=True)._weights(torch.tensor([-0.2, -0.2, -0.5]), alike)
    assert far.tolist() == [1.5, 1.5, 0]  # all three sigmoids are 0 in float32


def test_adapt_by_bm25_prefers_rows_that_share_words_with_the_anchors() -> None:
    tokens = random_tokens([(5, 5)] * 6, vocabulary=50)
    near = tokens.slice(2, 3)
    rows = TrainingRows({}, None, lambda data, reading: near)
    live = ADAPT(anchors="a", similarity="bm25", tau=0.3).begin(training(tiny_model(), tokens, rows))
    weights = asked(live, [0.0] * 6, rows=list(range(6)))
    assert int(weights.argmax()) == 2
    assert float(weights.max()) == pytest.approx(float(torch.tensor(1 / 0.3).sigmoid()))


@pytest.mark.parametrize("kind", ["adapt", "dga"])
def test_a_further_dataset_that_cannot_serve(kind: str) -> None:
    reweighter = ADAPT(anchors="far.parquet") if kind == "adapt" else DGA(target="far.parquet")
    columns = {"domain": ["a", "b"] * 20 + ["a"]}
    empty = random_tokens([(4, 3), (5, 2)], invalid=[0, 1])  # longer than the context: nothing of the answer is left
    with pytest.raises(InputError, match=r"far.parquet\): none of the 2 rows has completion text left"):
        reweighter.begin(training(tiny_model(), rows=rows_of(empty, **columns)))
    with pytest.raises(InputError, match="pass TrainingRows with tokenize"):
        reweighter.begin(training(tiny_model(), rows=TrainingRows(columns, "domain")))
