"""Clustering within sources, and what all clusterers promise."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import curate.clusterers
from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold
from curate.clusterers.features import source_codes
from curate.clusterers.per_source import check_rows, cluster_rows, collapsed_sources, is_per_source, seeded
from curate.component import fingerprint
from curate.errors import InputError
from tests.fixtures.clusters import OURS, blobs

WITH_SOURCES = [KMeans(per="source"), HDBSCAN(per="source"), Quantile(per="source"), PerSource(clusterer=KMeans())]


def refined(coarse: np.ndarray, fine: np.ndarray) -> bool:
    """Whether every group of `fine` lies within one group of `coarse`."""
    return all(len(np.unique(coarse[fine == label])) == 1 for label in np.unique(fine))


@pytest.mark.parametrize("clusterer", OURS, ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_feature_names_its_row(clusterer: Any, bad: float) -> None:
    X, _ = blobs(50)
    X[17, 2] = bad
    for run in (clusterer.fit_predict, lambda X: cluster_rows(clusterer, X)):
        with pytest.raises(InputError, match="feature 2 of row 17"):
            run(X)


def test_a_plugin_must_return_one_integer_per_row() -> None:
    class Wrong:
        def fit_predict(self, X: np.ndarray) -> np.ndarray:
            return np.zeros(len(X))

    with pytest.raises(InputError, match=r"Wrong\.fit_predict returned float64"):
        cluster_rows(Wrong(), blobs(9)[0])


# -- within sources --------------------------------------------------------------------------------------------


def two_sources(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interleaved rows of two sources on different levels: the easy rows of "b" are harder than all of "a"."""
    X, truth = blobs(400, seed)
    sources = np.random.default_rng(seed + 1).permutation(np.repeat(["a", "b"], 200)).astype(object)
    X[sources == "b"] += 10
    return X, truth, sources


INNER = [
    KMeans(),
    HDBSCAN(min_cluster_size=0.1, min_samples=5),
    SklearnKMeans(2, n_init=5, random_state=0),
    GaussianMixture(2, random_state=0),
    AgglomerativeClustering(2),
]


@pytest.mark.parametrize("inner", INNER, ids=lambda inner: type(inner).__module__ + type(inner).__name__)
def test_per_source_clusters_each_source_alone(inner: Any) -> None:
    X, truth, sources = two_sources()
    labels = PerSource(clusterer=inner).fit_predict(X, sources)
    kept = labels >= 0
    assert kept.mean() > 0.9
    assert refined(sources[kept], labels[kept])
    for name in ("a", "b"):
        own = kept & (sources == name)
        assert adjusted_rand_score(truth[own], labels[own]) == 1
        alone = cluster_rows(inner, X[sources == name]).labels
        assert adjusted_rand_score(labels[sources == name], alone) == 1


@pytest.mark.parametrize("ours", [KMeans(random_state=5), HDBSCAN(min_samples=3), Quantile(q=0.3)], ids=repr)
def test_per_is_per_source(ours: Any) -> None:
    X, _, sources = two_sources()
    inside = ours.model_copy(update={"per": "source"})
    wrapped = PerSource(clusterer=ours).fit_predict(X, sources)
    assert np.array_equal(inside.fit_predict(X, sources), wrapped)
    assert is_per_source(inside)
    assert not is_per_source(ours)


def test_a_source_does_not_depend_on_the_others() -> None:
    X, _, sources = two_sources()
    both = PerSource(clusterer=KMeans(n_clusters=5)).fit_predict(X, sources)[sources == "b"]
    alone = PerSource(clusterer=KMeans(n_clusters=5)).fit_predict(X[sources == "b"], sources[sources == "b"])
    assert np.array_equal(both - both.min(), alone)


@pytest.mark.parametrize("clusterer", WITH_SOURCES, ids=repr)
def test_sources_are_needed(clusterer: Any) -> None:
    with pytest.raises(InputError, match="per source but the rows have none"):
        clusterer.fit_predict(blobs(20)[0])
    with pytest.raises(InputError, match="per source but the rows have none"):
        check_rows(clusterer, 20, False)
    check_rows(clusterer, 1, True)  # a source too small for the clusterer is one cluster
    with pytest.raises(InputError, match="sources has 3 labels for 20 rows"):
        clusterer.fit_predict(blobs(20)[0], ["a"] * 3)


@pytest.mark.parametrize("inner", [*INNER, DBSCAN(min_samples=3)], ids=lambda inner: type(inner).__name__)
def test_sources_too_small_to_cluster_are_one_cluster_each(inner: Any) -> None:
    X, _ = blobs(303)
    sources = ["big"] * 300 + ["one", "pair", "pair"]
    X[302] = X[301]
    found = cluster_rows(PerSource(clusterer=inner), X, sources)
    assert found.labels[301] == found.labels[302]
    assert found.labels[300] != found.labels[301]
    assert not np.isin(found.labels[300:], found.labels[:300]).any() or (found.labels[300:] == -1).all()
    assert not found.all_hard.any()
    codes, names = source_codes(sources, 303)
    small, _, _ = collapsed_sources(PerSource(clusterer=inner), sources, 303)
    assert small == {names[code]: int((codes == code).sum()) for code in np.flatnonzero(found.collapsed)}
    assert {"one": 1}.items() <= small.items() <= {"one": 1, "pair": 2}.items()
    assert collapsed_sources(inner, sources, 303)[0] == {}
    assert not cluster_rows(inner, X).collapsed.any()


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(n_clusters=5),
        SklearnKMeans(5, random_state=0),
        GaussianMixture(5, random_state=0),
        AgglomerativeClustering(5),
        make_pipeline(StandardScaler(), SklearnKMeans(5, random_state=0)),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_what_is_refused_beforehand_is_refused_by_the_clusterer_too(clusterer: Any) -> None:
    X, _ = blobs(5)
    with pytest.raises(InputError, match=r"4 rows cannot make 5 clusters; lower n_"):
        check_rows(clusterer, 4, False)
    with pytest.raises(InputError):
        cluster_rows(clusterer, X[:4])
    check_rows(clusterer, 5, False)
    assert len(np.unique(cluster_rows(clusterer, X).labels)) == 5


@pytest.mark.parametrize("clusterer", [*OURS[1:4], DBSCAN(min_samples=9), HDBSCAN(min_cluster_size=9)], ids=repr)
def test_what_can_cluster_one_row_is_not_refused_beforehand(clusterer: Any) -> None:
    check_rows(clusterer, 1, False)
    assert cluster_rows(clusterer, np.zeros((1, 2), np.float32)).labels.shape == (1,)


def test_one_source_is_the_same_as_none() -> None:
    X, _ = blobs(200)
    alone = cluster_rows(KMeans(), X)
    single = cluster_rows(KMeans(per="source"), X, ["only"] * 200)
    assert np.array_equal(alone.labels, single.labels)


def test_small_sources_rule() -> None:
    # Rows 300 / 200 / 100 / 70 of 670: the average is 167.5, and two clusters want 78 rows.
    sizes = {"a": 300, "b": 200, "c": 100, "d": 70}
    sources = np.repeat(list(sizes), list(sizes.values()))
    X, _ = blobs(670)
    assert cluster_rows(KMeans(per="source"), X, sources).all_hard.tolist() == [False] * 4
    rule = KMeans(per="source", small_sources="all_hard")
    found = cluster_rows(rule, X, sources)
    assert found.all_hard.tolist() == [False, False, True, True]
    assert len(np.unique(found.labels[sources == "c"])) == 1
    # Equal sources are never below their average: only the 39 rows per cluster count then.
    for size, k, small in ((78, 2, False), (77, 2, True), (78, 3, True), (117, 3, False)):
        equal = np.repeat(["a", "b"], size)
        inner = PerSource(clusterer=SklearnKMeans(k, random_state=0), small_sources="all_hard")
        assert cluster_rows(inner, blobs(2 * size)[0], equal).all_hard.tolist() == [small] * 2


def test_noise_stays_noise_in_every_source() -> None:
    class Noisy:
        def fit_predict(self, X: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(X)) % 2, 7, -3)

    labels = PerSource(clusterer=Noisy()).fit_predict(blobs(8)[0], ["a"] * 4 + ["b"] * 4)
    assert labels.tolist() == [-1, 0, -1, 0, -1, 1, -1, 1]


def test_per_source_rejects_what_cannot_cluster() -> None:
    with pytest.raises(ValueError, match="no method fit_predict"):
        PerSource(clusterer=3)
    with pytest.raises(ValueError, match="already works per source"):
        PerSource(clusterer=KMeans(per="source"))


@pytest.mark.parametrize("clusterer", [*OURS, *WITH_SOURCES], ids=repr)
def test_clusterers_are_values(clusterer: Any) -> None:
    again = type(clusterer)(**dict(clusterer))
    assert again == clusterer
    assert pickle.loads(pickle.dumps(clusterer)) == clusterer
    assert fingerprint(again) == fingerprint(clusterer)
    assert (
        eval(repr(clusterer), {name: getattr(curate.clusterers, name) for name in curate.clusterers.__all__})
        == clusterer
    )
    with pytest.raises(ValueError, match="Extra inputs"):
        type(clusterer)(**dict(clusterer), nonsense=1)


def test_fingerprints_differ() -> None:
    wrapped = [PerSource(clusterer=inner) for inner in (KMeans(), KMeans(n_clusters=3), clone(SklearnKMeans(2)))]
    assert len({fingerprint(value) for value in [*OURS, *WITH_SOURCES[:3], *wrapped]}) == len(OURS) + 6


# -- seeds and estimators of other packages ---------------------------------------------------------------------


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
