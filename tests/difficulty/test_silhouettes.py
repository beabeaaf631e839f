"""Silhouettes are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from curate.difficulty.silhouettes import mean_silhouette


@pytest.mark.parametrize(("rows", "clusters"), [(3, 2), (40, 3), (700, 2), (1100, 20)])  # several blocks too
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_they_are_those_of_scikit_learn(rows: int, clusters: int, offset: float) -> None:
    random = np.random.default_rng(rows)
    labels = np.r_[np.arange(clusters), random.integers(0, max(1, clusters - 1), rows - clusters)]  # the last is alone
    points = offset + random.normal(size=(rows, 4)) + labels[:, None]
    assert mean_silhouette(points, labels) == pytest.approx(silhouette_score(points, labels), abs=1e-6)


def test_equal_points_have_none() -> None:
    assert mean_silhouette(np.ones((6, 2)), np.array([0, 0, 0, 1, 1, 1])) == 0
