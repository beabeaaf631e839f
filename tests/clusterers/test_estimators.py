"""Estimators of other packages: seeded, copied before they are fitted, and read back as recipes."""

from __future__ import annotations

from sklearn.cluster import DBSCAN
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from curate.clusterers import (
    HDBSCAN,
    KMeans,
    PerSource,
    Quantile,
    Threshold,
    cluster_rows,
    seeded,
)
from tests.fixtures.clusters import blobs

# -- seeds and parameters --------------------------------------------------------------------------------------


def test_seeded_fills_only_open_seeds_and_never_changes_its_argument() -> None:
    for clusterer in (KMeans(), HDBSCAN()):
        got = seeded(clusterer, 3)
        assert got.random_state is not None
        assert clusterer.random_state is None
        assert seeded(got, 4) == got
        assert seeded(clusterer, 4) != got
    theirs = SklearnKMeans(3)
    got = seeded(theirs, 3)
    assert isinstance(got.random_state, int)
    assert theirs.random_state is None
    assert got.n_clusters == 3
    assert seeded(SklearnKMeans(3, random_state=8), 3).random_state == 8
    assert seeded(PerSource(clusterer=SklearnKMeans(2)), 3).clusterer.random_state == got.random_state
    assert (
        seeded(KMeans(per="source"), 3).random_state == seeded(PerSource(clusterer=KMeans()), 3).clusterer.random_state
    )
    nested = make_pipeline(StandardScaler(), SklearnKMeans(2))
    assert seeded(nested, 3).get_params()["kmeans__random_state"] == got.random_state
    for fixed in (Quantile(), Threshold(value=1.0), DBSCAN()):
        assert seeded(fixed, 3) is fixed


def test_a_callers_estimator_is_never_fitted() -> None:
    theirs = SklearnKMeans(2, random_state=0)
    cluster_rows(theirs, blobs(50)[0])
    assert not hasattr(theirs, "labels_")
    cluster_rows(PerSource(clusterer=theirs), blobs(50)[0], ["a"] * 25 + ["b"] * 25)
    assert not hasattr(theirs, "labels_")
