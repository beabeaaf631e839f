"""BM25 over token ids."""

from __future__ import annotations

import numpy as np

from curate.reweighters.bm25 import bm25_scores
from tests.fixtures.models import random_tokens
from tests.fixtures.reweighting import ANCHORS


def test_bm25_is_the_formula() -> None:
    documents, queries = random_tokens([(3, 4), (2, 9), (5, 1), (1, 1)], vocabulary=12), ANCHORS
    queries = random_tokens([(2, 3), (4, 4)], seed=3, vocabulary=12)
    rows = [documents.ids[a:b].tolist() for a, b in zip(documents.offsets, documents.offsets[1:], strict=False)]
    wanted = [set(queries.ids[a:b].tolist()) for a, b in zip(queries.offsets, queries.offsets[1:], strict=False)]
    mean = np.mean([len(row) for row in rows])
    expected = np.zeros(4)
    for i, row in enumerate(rows):
        for query in wanted:
            for t in query:
                n_t, f = sum(t in other for other in rows), row.count(t)
                damping = 1.5 * (1 - 0.75 + 0.75 * len(row) / mean)
                expected[i] += np.log(1 + (4 - n_t + 0.5) / (n_t + 0.5)) * f * 2.5 / (f + damping) / 2
    assert np.allclose(bm25_scores(documents, queries), expected)
