"""HDBSCAN: groups, noise, and tables above its cap."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from curate.clusterers import (
    HDBSCAN,
)
from curate.errors import InputError
from tests.fixtures.clusters import blobs

# -- HDBSCAN ---------------------------------------------------------------------------------------------------


def test_hdbscan_finds_groups_and_noise() -> None:
    X, truth = blobs(600)
    X = np.concatenate([X, [[30, -30, 30, -30]]]).astype(np.float32)
    labels = HDBSCAN(min_cluster_size=20, min_samples=5).fit_predict(X)
    assert labels[-1] == -1
    kept = labels[:-1] >= 0
    assert kept.mean() > 0.9
    assert adjusted_rand_score(truth[kept], labels[:-1][kept]) == 1


def test_hdbscan_above_its_cap_says_the_same_as_below() -> None:
    X, truth = blobs(3000)
    X = np.concatenate([X, np.random.default_rng(1).uniform(-60, 60, (300, 4))]).astype(np.float32)
    truth = np.concatenate([truth, np.full(300, -1)])
    sampled = HDBSCAN(min_cluster_size=0.05, min_samples=5, max_rows=600, random_state=3).fit_predict(X)
    assert (sampled[truth >= 0] >= 0).mean() > 0.9
    assert (sampled[truth < 0] == -1).mean() > 0.8  # noise spreads to its neighbors, too
    kept = (sampled >= 0) & (truth >= 0)
    assert adjusted_rand_score(truth[kept], sampled[kept]) == 1


def test_hdbscan_all_noise_and_few_rows() -> None:
    uniform = np.random.default_rng(0).random((300, 6)).astype(np.float32)
    assert set(HDBSCAN(min_cluster_size=0.2).fit_predict(uniform)) == {-1}
    for n in (1, 2, 5):
        assert HDBSCAN(min_cluster_size=5).fit_predict(np.eye(n, 3)).tolist() == [-1] * n


def test_hdbscan_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdbscan", None)
    with pytest.raises(InputError, match=r"pip install 'curate-lm\[hdbscan\]'"):
        HDBSCAN().fit_predict(blobs(100)[0])


def test_hdbscan_share_is_at_most_half() -> None:
    with pytest.raises(ValueError, match="a share must be at most"):
        HDBSCAN(min_cluster_size=0.6)
