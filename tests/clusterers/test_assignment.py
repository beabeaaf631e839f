"""New rows in existing clusters: the clustered rows themselves keep theirs, others go by each clusterer's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import AgglomerativeClustering

from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold
from curate.clusterers.assignment import assign
from curate.difficulty.scores import Scores
from curate.difficulty.split import make_split
from curate.errors import InputError

CLUSTERERS = [
    KMeans(n_clusters=4),
    KMeans(n_clusters=3, standardize=True),
    KMeans(per="source"),
    KMeans(per="source", small_sources="all_hard"),
    PerSource(clusterer=KMeans(n_clusters=3, standardize=True)),
    Quantile(q=0.3),
    Quantile(q=0.3, per="source"),
    Threshold(value=0.1),
    PerSource(clusterer=Threshold(value=0.1)),
    HDBSCAN(min_cluster_size=20, min_samples=3),
    HDBSCAN(min_cluster_size=20, min_samples=3, max_rows=200),
    HDBSCAN(min_cluster_size=15, min_samples=3, per="source"),
    AgglomerativeClustering(3),
    PerSource(clusterer=AgglomerativeClustering(2)),
]


def cloud(n: int = 600, seed: int = 0) -> tuple[Scores, np.ndarray]:
    """Three overlapping groups of distinct points at an offset, on scales that differ, and sources of uneven size."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 0.3, (n, 3)) + rng.integers(0, 3, n)[:, None] * np.array([1.0, 0.5, 0.2])
    points = (points - points.mean()) * [1, 10, 0.01]
    sources = np.array(["big", "middle", None, "tiny"], object)[rng.choice(4, n, p=[0.6, 0.28, 0.11, 0.01])]
    sources[0] = "tiny"  # a source of too few rows to be clustered
    features = points.astype(np.float32)
    ids = pa.array([str(i) for i in range(n)])
    return Scores(features, features.mean(axis=1), np.ones(n, bool), ids=ids), sources


@pytest.mark.parametrize("clusterer", CLUSTERERS, ids=lambda clusterer: repr(clusterer)[:60])
def test_the_clustered_rows_themselves_keep_their_clusters(clusterer: Any) -> None:
    scores, sources = cloud()
    split = make_split(scores, clusterer, sources=sources)
    given = {"sources": sources, "new_sources": sources} if split.per_source else {}
    found = assign(clusterer, scores.features, split.cluster, scores.features, **given)
    assert len(np.unique(split.cluster)) > 1
    assert np.array_equal(found.cluster, split.cluster)
    assert not found.unknown_source.any()
    order = np.random.default_rng(1).permutation(len(sources))
    given = {name: values if name == "sources" else values[order] for name, values in given.items()}
    shuffled = assign(clusterer, scores.features, split.cluster, scores.features[order], **given)
    assert np.array_equal(shuffled.cluster, split.cluster[order])


def test_many_rows_keep_their_clusters_but_for_what_k_means_left_unsettled() -> None:
    late = np.random.default_rng(0).beta(1, 3, (200_000, 1))
    points = np.random.default_rng(1).normal(4 - late * [1, 2, 3], 0.3).astype(np.float32)
    labels = KMeans().fit_predict(points)
    assert (assign(KMeans(), points, labels, points).cluster != labels).mean() < 1e-4


def test_nearest_mean_is_scaled_as_k_means_scaled() -> None:
    X = np.array([[0, 0], [0, 100], [10, 0], [10, 100]], np.float32)
    labels = np.array([4, 4, 9, 9], np.int32)
    new = np.array([[4, 9000], [6, -50], [np.float32(5.1), 50]], np.float32)
    assert assign(KMeans(standardize=True), X, labels, new).cluster.tolist() == [4, 9, 9]
    tilted = np.array([4, 9, 4, 9], np.int32)
    assert assign(KMeans(), X, tilted, new).cluster.tolist() == [9, 4, 4]
    constant = np.column_stack([X[:, 0], np.full(4, 7)]).astype(np.float32)
    moved = np.array([[4, 1e9], [6, -1e9]], np.float32)
    assert assign(KMeans(standardize=True), constant, labels, moved).cluster.tolist() == [4, 9]


def test_edges_are_those_of_the_rule() -> None:
    X = np.array([[0.0], [1], [2], [3], [4]], np.float32)
    new = np.array([[-9.0], [3], [3.01], [99]], np.float32)
    labels = Quantile(q=0.2).fit_predict(X)
    assert assign(Quantile(q=0.2), X, labels, new).cluster.tolist() == [0, 0, 1, 1]
    # Numbers go by difficulty, which need not go with the features.
    assert assign(Quantile(q=0.2), X, 1 - labels, new).cluster.tolist() == [1, 1, 0, 0]
    assert assign(Threshold(value=3.005), X, labels, new).cluster.tolist() == [0, 0, 1, 1]
    assert assign(Threshold(value=50), X, np.zeros(5, np.int32), new).cluster.tolist() == [0, 0, 0, 0]


def test_a_new_row_can_be_noise() -> None:
    X = np.array([[0.0], [1], [9]], np.float32)
    found = assign(HDBSCAN(), X, np.array([0, 0, -1], np.int32), np.array([[8.0], [0.4]], np.float32))
    assert found.cluster.tolist() == [-1, 0]
    assert found.rule == "nearest row"


def test_a_row_of_an_unknown_source_joins_its_nearest_row() -> None:
    X = np.array([[0.0], [1], [10], [11]], np.float32)
    labels = np.array([0, 1, 2, 3], np.int32)
    sources, new_sources = np.array(["a", "a", "b", "b"], object), np.array(["a", "c", "b", None], object)
    new = np.array([[10.9], [10.9], [0.1], [0.6]], np.float32)
    found = assign(KMeans(per="source"), X, labels, new, sources=sources, new_sources=new_sources)
    assert found.cluster.tolist() == [1, 3, 2, 1]
    assert found.unknown_source.tolist() == [False, True, False, True]


def test_a_feature_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="feature of new row 1 is not finite"):
        assign(KMeans(), np.eye(2), np.arange(2, dtype=np.int32), np.array([[0, 0], [np.nan, 0]]))
