"""Clusterers: what k-means optimises, degenerate data, scale, and clustering within sources."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold, cluster_rows, is_per_source, seeded
from curate.clusterers.features import source_codes
from curate.clusterers.per_source import check_rows, collapsed_sources
from curate.component import fingerprint
from curate.errors import DataWarning, InputError

OURS = [KMeans(), HDBSCAN(), Quantile(), Threshold(value=1.0), KMeans(n_clusters=12), KMeans(standardize=True)]
WITH_SOURCES = [KMeans(per="source"), HDBSCAN(per="source"), Quantile(per="source"), PerSource(clusterer=KMeans())]


def blobs(n: int, seed: int = 0, share: float = 0.3, f: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(X (n, f) float32, truth (n,)): two blobs ten noise widths apart per feature."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    X = np.where(truth, 3.0, 1.0)[:, None] + rng.normal(0, 0.2, (n, f))
    return X.astype(np.float32), truth.astype(int)


def inertia(X: np.ndarray, labels: np.ndarray) -> float:
    X = X.astype(np.float64)
    return sum(float(((X[labels == c] - X[labels == c].mean(axis=0)) ** 2).sum()) for c in np.unique(labels))


def refined(coarse: np.ndarray, fine: np.ndarray) -> bool:
    """Whether every group of `fine` lies within one group of `coarse`."""
    return all(len(np.unique(coarse[fine == label])) == 1 for label in np.unique(fine))


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
    monkeypatch.setattr("curate.clusterers.lloyd.START_ROWS", 200)
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


@pytest.mark.parametrize("clusterer", OURS, ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_feature_names_its_row(clusterer: Any, bad: float) -> None:
    X, _ = blobs(50)
    X[17, 2] = bad
    for run in (clusterer.fit_predict, lambda X: cluster_rows(clusterer, X)):
        with pytest.raises(InputError, match="feature 2 of row 17"):
            run(X)


@pytest.mark.parametrize("X", [np.zeros((0, 2)), np.zeros((3, 0)), np.zeros(3), np.array([["a"], ["b"]])])
def test_not_a_feature_matrix(X: np.ndarray) -> None:
    with pytest.raises(InputError, match="features have"):
        KMeans().fit_predict(X)


def test_a_plugin_must_return_one_integer_per_row() -> None:
    class Wrong:
        def fit_predict(self, X: np.ndarray) -> np.ndarray:
            return np.zeros(len(X))

    with pytest.raises(InputError, match=r"Wrong\.fit_predict returned float64"):
        cluster_rows(Wrong(), blobs(9)[0])


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
    assert (sampled[truth < 0] == -1).mean() > 0.8  # noise spreads to its neighbours, too
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


# -- Quantile and Threshold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.05, 0.2, 0.7])
@pytest.mark.parametrize("n", [10, 997])
def test_quantile_takes_the_top_share(q: float, n: int) -> None:
    X = np.random.default_rng(0).permutation(n)[:, None].astype(float)
    labels = Quantile(q=q).fit_predict(X)
    assert labels.sum() == int(q * n + 1e-9)
    assert X[labels == 1].min(initial=n) > X[labels == 0].max()


def test_quantile_never_takes_more_than_its_share() -> None:
    assert Quantile(q=0.2).fit_predict([[1.0]] * 5 + [[2.0]] * 5).sum() == 0
    assert Quantile(q=0.5).fit_predict([[1.0]] * 5 + [[2.0]] * 5).tolist() == [0] * 5 + [1] * 5


def test_quantile_and_threshold_use_the_row_mean() -> None:
    X = np.array([[0.0, 3.0], [1.0, 1.0], [5.0, 0.0]])
    assert Threshold(value=1.2).fit_predict(X).tolist() == [1, 0, 1]
    assert Threshold(value=2.5).fit_predict(X).tolist() == [0, 0, 0]
    assert Quantile(q=0.34).fit_predict(X).tolist() == [0, 0, 1]


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


@pytest.mark.parametrize(
    "sources",
    [
        ["b", None, "a", "b"],
        np.array(["b", None, "a", "b"], object),
        pa.array(["b", None, "a", "b"]),
        pa.chunked_array([["b", None], ["a", "b"]]),
        pa.array(["b", None, "a", "b"]).dictionary_encode(),
        pa.array(["b", None, "a", "b"], pa.large_string()),
    ],
    ids=lambda sources: type(sources).__name__,
)
def test_source_codes(sources: Any) -> None:
    codes, names = source_codes(sources, 4)
    assert codes.tolist() == [1, 2, 0, 1]
    assert names == ["a", "b", None]


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


@pytest.mark.parametrize("clusterer", [*OURS, *WITH_SOURCES], ids=repr)
def test_clusterers_are_values(clusterer: Any) -> None:
    again = type(clusterer)(**dict(clusterer))
    assert again == clusterer
    assert pickle.loads(pickle.dumps(clusterer)) == clusterer
    assert fingerprint(again) == fingerprint(clusterer)
    assert eval(repr(clusterer)) == clusterer
    with pytest.raises(ValueError, match="Extra inputs"):
        type(clusterer)(**dict(clusterer), nonsense=1)


def test_fingerprints_differ() -> None:
    wrapped = [PerSource(clusterer=inner) for inner in (KMeans(), KMeans(n_clusters=3), clone(SklearnKMeans(2)))]
    assert len({fingerprint(value) for value in [*OURS, *WITH_SOURCES[:3], *wrapped]}) == len(OURS) + 6


@pytest.mark.parametrize("wrong", [{"n_clusters": 0}, {"n_init": 1}, {"per": "row"}, {"random_state": -1}])
def test_kmeans_parameters_are_validated(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        KMeans(**wrong)
