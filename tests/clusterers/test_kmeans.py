"""K-means: what it minimizes, its starts, scale, and degenerate data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from curate.clusterers import KMeans
from curate.clusterers.per_source import cluster_rows
from curate.errors import DataWarning, InputError
from tests.fixtures.clusters import OURS, blobs


def inertia(X: np.ndarray, labels: np.ndarray) -> float:
    X = X.astype(np.float64)
    return sum(float(((X[labels == c] - X[labels == c].mean(axis=0)) ** 2).sum()) for c in np.unique(labels))


# -- k-means ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 12])
def test_kmeans_labels_are_a_fixed_point(k: int) -> None:
    X = np.random.default_rng(k).gamma(2.0, 1.0, (3000, 5)).astype(np.float32)
    labels = KMeans(n_clusters=k).fit_predict(X)
    centroids = np.array([X[labels == c].mean(axis=0, dtype=np.float64) for c in range(k)])
    nearest = ((X[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest != labels).mean() < 2e-3
    assert labels.dtype == np.int32


@pytest.mark.parametrize("k", [2, 3, 12])
def test_kmeans_is_as_good_as_scikit_learn(k: int) -> None:
    X = np.random.default_rng(k).gamma(2.0, 1.0, (3000, 5)).astype(np.float32)
    theirs = SklearnKMeans(k, n_init=5, random_state=0).fit_predict(X)
    assert inertia(X, KMeans(n_clusters=k).fit_predict(X)) <= 1.02 * inertia(X, theirs)


def test_centroids_are_fitted_on_every_row_and_not_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    # With starts compared on 200 rows, the result must still be the one that all 20,000 rows agree on.
    rng = np.random.default_rng(0)
    X = (rng.gamma(1.0, 1.0, (20_000, 1)) * [1, 0.8, 0.6] + rng.normal(0, 0.1, (20_000, 3))).astype(np.float32)
    whole = KMeans().fit_predict(X)
    few = rng.choice(20_000, 200, replace=False)
    centroids = [X[few][KMeans().fit_predict(X[few]) == cluster].mean(axis=0) for cluster in (0, 1)]
    nearest = ((X[:, None] - np.array(centroids)) ** 2).sum(axis=2).argmin(axis=1)
    assert adjusted_rand_score(whole, nearest) < 0.98  # what fitting on a sample would give
    monkeypatch.setattr("curate.clusterers.kmeans.START_ROWS", 200)
    for seed in range(3):
        assert adjusted_rand_score(whole, KMeans(random_state=seed).fit_predict(X)) > 0.995


def test_threads_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(0).gamma(1.0, 1.0, (200_000, 3)).astype(np.float32)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    threaded = KMeans(random_state=1).fit_predict(X)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert np.array_equal(threaded, KMeans(random_state=1).fit_predict(X))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("offset", [0, 1000])
def test_offset_scale_and_dtype_do_not_matter(dtype: Any, offset: int) -> None:
    X, truth = blobs(500)
    shifted = (np.round(X * 8) + offset).astype(dtype)
    assert adjusted_rand_score(truth, KMeans().fit_predict(shifted)) == 1
    if dtype == np.float64:
        for scale in (1e-30, 1e30):
            assert adjusted_rand_score(truth, KMeans().fit_predict(shifted * scale)) == 1


def test_standardize_gives_every_feature_the_same_say() -> None:
    X, truth = blobs(500, f=2)
    loud = np.column_stack([X, np.random.default_rng(1).normal(0, 50, 500)])
    assert adjusted_rand_score(truth, KMeans().fit_predict(loud)) < 0.1
    assert adjusted_rand_score(truth, KMeans(standardize=True).fit_predict(loud)) == 1
    constant = np.column_stack([X, np.full(500, 7.0)])
    assert adjusted_rand_score(truth, KMeans(standardize=True).fit_predict(constant)) == 1


def test_kmeans_random_state() -> None:
    X = np.random.default_rng(0).random((400, 4)).astype(np.float32)
    runs = [KMeans(n_clusters=9, random_state=seed).fit_predict(X) for seed in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_kmeans_says_when_it_was_stopped_early() -> None:
    X = np.random.default_rng(0).random((2000, 4)).astype(np.float32)
    with pytest.warns(DataWarning, match="raise max_iter"):
        KMeans(n_clusters=9, max_iter=1).fit_predict(X)


# -- degenerate data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clusterer", OURS, ids=repr)
def test_equal_rows_are_one_cluster(clusterer: Any) -> None:
    for value in (0.0, 0.1, 3.3e7):
        labels = clusterer.fit_predict(np.full((300, 3), value, np.float32))
        assert len(np.unique(labels)) == 1
        assert cluster_rows(clusterer, np.full((300, 3), value, np.float32)).labels.tolist() == [0] * 300


@pytest.mark.parametrize("clusterer", [KMeans(), KMeans(standardize=True), GaussianMixture(2, random_state=0)])
def test_a_constant_column_is_harmless(clusterer: Any) -> None:
    X, truth = blobs(200)
    X[:, 1] = 0.7
    assert adjusted_rand_score(truth, cluster_rows(clusterer, X).labels) == 1


def test_fewer_distinct_points_than_clusters() -> None:
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 20, axis=0)
    labels = KMeans(n_clusters=5).fit_predict(X)
    assert adjusted_rand_score(np.repeat([0, 1], 20), labels) == 1


def test_too_few_rows_in_all() -> None:
    with pytest.raises(InputError, match=r"1 rows cannot make 2 clusters"):
        KMeans().fit_predict(np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"KMeans cannot cluster the data \(3 rows\)"):
        cluster_rows(SklearnKMeans(5), np.eye(3))


@pytest.mark.parametrize("wrong", [{"n_clusters": 0}, {"n_init": 1}, {"per": "row"}, {"random_state": -1}])
def test_kmeans_parameters_are_validated(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        KMeans(**wrong)
