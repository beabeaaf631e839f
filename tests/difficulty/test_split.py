"""The split: joined by id, hard by policy, never by position, never everything."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score

from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold
from curate.difficulty.scores import Scores, Split, as_scores
from curate.difficulty.split import agreement, join_scores, make_split, mean_agreement
from curate.errors import InputError
from tests.fixtures.splits import names


class Given:
    """A clusterer that returns the labels written in the first feature."""

    def fit_predict(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0].astype(int)


def given(labels: list[int], difficulty: list[float], **more: Any) -> Scores:
    """Scores that `Given` clusters as `labels`."""
    features = np.column_stack([labels, np.arange(len(labels))]).astype(np.float32)
    return Scores(features, np.array(difficulty, np.float32), np.ones(len(labels), bool), **more)


def trajectories(n: int, seed: int = 0, share: float = 0.2) -> tuple[Scores, np.ndarray]:
    """Scores of n rows of which a `share` is learned late, and which those are."""
    rng = np.random.default_rng(seed)
    late = rng.random(n) < share
    curve = np.where(late[:, None], np.linspace(3, 2, 5), np.linspace(2.5, 0.5, 5)) + rng.normal(0, 0.1, (n, 5))
    losses = curve.astype(np.float32)
    tokens = rng.integers(8, 200, n).astype(np.int32)
    mean = losses.mean(axis=1)
    return Scores(losses, mean, np.ones(n, bool), losses, np.arange(5), tokens), late


# -- positions -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(per="source"),
        PerSource(clusterer=SklearnKMeans(2)),
        HDBSCAN(per="source", min_cluster_size=0.05, min_samples=3),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_two_interleaved_sources_exactly_the_known_rows_are_hard(clusterer: Any) -> None:
    scores, late = trajectories(400)
    sources = np.array(["b", "a", "b", "b"] * 100, object)
    level = np.where(sources == "b", 20, 0).astype(np.float32)  # all of "b" is above the hardest of "a"
    shifted = Scores(scores.features + level[:, None], scores.difficulty + level, scores.valid)
    split = make_split(shifted, clusterer, ids=names(400), sources=sources)
    assert np.array_equal(split.hard, late)
    assert split.per_source
    assert split.sources is not None
    assert split.sources.tolist() == sources.tolist()
    # Positions local to a source, used as global ones, would mark these rows instead.
    wrong = np.zeros(400, bool)
    for name in ("a", "b"):
        wrong[np.flatnonzero(late[sources == name])] = True
    assert not np.array_equal(wrong, late)


def test_invalid_rows_shift_nothing() -> None:
    scores, late = trajectories(300)
    valid = np.arange(300) % 3 != 0
    features = np.where(valid[:, None], scores.features, np.nan).astype(np.float32)
    difficulty = np.where(valid, scores.difficulty, np.nan).astype(np.float32)
    for sources, clusterer in ((None, KMeans()), (["a", "b", "c", None, "c", "a"] * 50, KMeans(per="source"))):
        split = make_split(Scores(features, difficulty, valid), clusterer, ids=names(300), sources=sources)
        assert np.array_equal(split.hard, late & valid)
        assert (split.cluster[~valid] == -2).all()
        assert (split.cluster[valid] >= 0).all()
        assert np.array_equal(split.valid, valid)
        assert np.isnan(split.difficulty[~valid]).all()


def test_row_order_does_not_matter() -> None:
    scores, _ = trajectories(200)
    order = np.random.default_rng(1).permutation(200)
    straight = make_split(scores, KMeans(), ids=names(200))
    shuffled = make_split(scores.take(order), KMeans(), ids=names(200).take(order))
    assert np.array_equal(straight.hard[order], shuffled.hard)
    assert np.array_equal(straight.cluster[order], shuffled.cluster)


# -- joining by id ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [pa.array, np.array, list, lambda ids: pa.chunked_array([ids[:7], ids[7:]])])
def test_scores_are_joined_by_id(kind: Any) -> None:
    scores, late = trajectories(50)
    ids = names(50)
    order = np.random.default_rng(1).permutation(50)
    mixed = scores.take(order).with_ids(kind(ids.take(order).to_pylist()))
    split = make_split(mixed, KMeans(), ids=ids)
    assert np.array_equal(split.hard, late)
    assert np.array_equal(split.difficulty, scores.difficulty)
    assert split.final_loss is not None
    assert scores.trajectory is not None
    assert np.array_equal(split.final_loss, scores.trajectory[:, -1])
    assert split.ids.equals(ids)
    joined = join_scores(mixed, ids)
    for name in ("features", "difficulty", "valid", "trajectory", "tokens"):
        assert np.array_equal(getattr(joined, name), getattr(scores, name))


def test_ids_that_do_not_match() -> None:
    scores = trajectories(5)[0]
    with pytest.raises(InputError, match=r"no row for example id row-3 \(and 1 more\)"):
        join_scores(scores.with_ids(pa.array(["row-0", "row-1", "row-2", "x", "y"])), names(5))
    with pytest.raises(InputError, match=r"hold id row-3 more than once"):
        join_scores(scores.with_ids(pa.array(["row-0", "row-1", "row-2", "row-3", "row-3"])), names(4))
    with pytest.raises(InputError, match="row-1 is not unique"):
        join_scores(scores.with_ids(names(5)), pa.array(["row-0", "row-1", "row-2", "row-3", "row-1"]))
    with pytest.raises(InputError, match="scores have 5 rows for 4 examples"):
        join_scores(scores, names(4))


def test_scores_of_further_rows_are_left_out() -> None:
    """The scores of a whole dataset serve any part of it, in any order; a repeat among the rest does no harm."""
    scores = trajectories(50)[0].with_ids(pa.array([*names(48).to_pylist(), "other", "other"]))
    part = np.array([40, 3, 17])
    joined = join_scores(scores, names(48).take(part))
    assert joined.ids.equals(names(48).take(part))
    for name in ("features", "difficulty", "valid", "trajectory", "tokens"):
        assert np.array_equal(getattr(joined, name), getattr(scores, name)[part])


@pytest.mark.slow
def test_a_million_ids_join_in_seconds() -> None:
    n = 1_000_000
    ids = pa.array([f"{i:032x}" for i in range(n)])
    order = np.random.default_rng(0).permutation(n)
    difficulty = np.arange(n, dtype=np.float32)
    scores = as_scores(difficulty[order], n).with_ids(ids.take(order))
    start = time.process_time()
    joined = join_scores(scores, ids)
    assert time.process_time() - start < 5
    assert np.array_equal(joined.difficulty, difficulty)


# -- policies --------------------------------------------------------------------------------------------------
FIVE = given([7, 7, 3, 3, 5, 5, 0, 0, -1, -1], [1, 1, 2, 2, 6, 6, 3, 3, 9, 9])


@pytest.mark.parametrize(
    ("policy", "hard"),
    [("highest", [4, 5]), (1, [4, 5]), (2, [4, 5, 6, 7]), (9, [2, 3, 4, 5, 6, 7]), ("above_mean", [4, 5])],
)
def test_policies(policy: Any, hard: list[int]) -> None:
    split = make_split(FIVE, Given(), ids=names(10), hard=policy)
    assert np.flatnonzero(split.hard).tolist() == hard
    assert split.cluster.tolist() == [0, 0, 1, 1, 3, 3, 2, 2, -1, -1]


def test_above_mean_counts_noise_in_the_mean() -> None:
    # The mean of all rows is 1.5, that of the clustered ones 2: cluster 1 is hard only because of the noise.
    split = make_split(given([0, 1, 2, -1], [1, 2, 3, 0]), Given(), ids=names(4), hard="above_mean")
    assert split.hard.tolist() == [False, True, True, False]


@pytest.mark.parametrize(("policy", "hard"), [("highest", [3, 5]), (2, [2, 3, 5]), ("above_mean", [3, 5])])
def test_policies_hold_within_each_source(policy: Any, hard: list[int]) -> None:
    scores = given([0, 1, 2, 3, 0, 1], [1, 2, 3, 9, 50, 60])
    sources = ["x", "x", "x", "x", "y", "y"]
    split = make_split(scores, PerSource(clusterer=Given()), ids=names(6), sources=sources, hard=policy)
    assert np.flatnonzero(split.hard).tolist() == hard
    assert split.cluster.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("policy", [0, -1, 1.5, True, "hardest", None])
def test_unknown_policy(policy: Any) -> None:
    with pytest.raises(InputError, match="is not a policy"):
        make_split(FIVE, Given(), ids=names(10), hard=policy)


def test_numbers_rise_with_difficulty_whatever_the_clusterer_calls_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = rng.integers(0, 6, 60)
        scores = given(labels.tolist(), rng.random(60).tolist())
        split = make_split(scores, Given(), ids=names(60))
        means = [split.difficulty[split.cluster == c].mean() for c in range(split.cluster.max() + 1)]
        assert means == sorted(means)
        assert len(means) == len(np.unique(labels))
        renamed = given((10 - labels).tolist(), scores.difficulty.tolist())
        assert np.array_equal(split.cluster, make_split(renamed, Given(), ids=names(60)).cluster)


# -- never everything ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["highest", "above_mean", 1, 3])
@pytest.mark.parametrize(
    "scores",
    [
        given([0] * 6, [1, 2, 3, 4, 5, 6]),
        given([-1] * 6, [1, 2, 3, 4, 5, 6]),
        given([0, 0, 0, 0, -1, -1], [1, 2, 3, 4, 5, 6]),
        given([0, 0, 0, 1, 1, 1], [0.1] * 6),
    ],
    ids=["one cluster", "all noise", "one cluster and noise", "clusters that tie"],
)
def test_nothing_is_hard(policy: Any, scores: Scores) -> None:
    assert not make_split(scores, Given(), ids=names(6), hard=policy).hard.any()


@pytest.mark.parametrize("clusterer", [KMeans(), HDBSCAN(), Quantile(), Threshold(value=0.0)], ids=repr)
def test_equal_rows_are_easy(clusterer: Any) -> None:
    same = np.full(200, 0.1, np.float32)
    split = make_split(as_scores(same, 200), clusterer, ids=names(200))
    assert not split.hard.any()
    assert (split.cluster == 0).all()


def test_whole_sources_are_hard_only_where_asked() -> None:
    scores, late = trajectories(300)
    sources = ["big"] * 260 + ["small"] * 40
    plain = make_split(scores, KMeans(per="source"), ids=names(300), sources=sources)
    assert np.array_equal(plain.hard, late)
    rule = KMeans(per="source", small_sources="all_hard")
    valid = np.arange(300) != 299
    scores = Scores(scores.features, scores.difficulty, valid)
    split = make_split(scores, rule, ids=names(300), sources=sources)
    assert split.hard[260:].tolist() == [True] * 39 + [False]
    assert np.array_equal(split.hard[:260], late[:260])


def test_a_single_cluster_in_one_source_leaves_the_other_alone() -> None:
    scores = given([0, 0, 0, 1], [50, 50, 1, 2])
    split = make_split(scores, PerSource(clusterer=Given()), ids=names(4), sources=["x", "x", "y", "y"])
    assert split.hard.tolist() == [False, False, False, True]


# -- errors, seeds ---------------------------------------------------------------------------------------------
def test_a_feature_that_is_not_finite_names_row_and_id() -> None:
    scores, _ = trajectories(20)
    scores.features[13, 2] = np.nan
    valid = np.arange(20) != 4
    scores = Scores(scores.features, scores.difficulty, valid)
    with pytest.raises(InputError, match=r"row 13 \(example id row-13\) is not finite"):
        make_split(scores, KMeans(), ids=names(20))


def test_nothing_to_cluster() -> None:
    nothing = as_scores(np.full(3, np.nan), 3)
    with pytest.raises(InputError, match="no row is valid"):
        make_split(nothing, KMeans(), ids=names(3))
    with pytest.raises(InputError, match="1 rows cannot make 2 clusters"):
        make_split(as_scores(np.array([1.0, np.nan]), 2), KMeans(), ids=names(2))


def test_sources_of_the_wrong_length() -> None:
    with pytest.raises(InputError, match="sources has 3 labels for 10 rows"):
        make_split(FIVE, Given(), ids=names(10), sources=["a"] * 3)


@pytest.mark.parametrize("clusterer", [KMeans(n_clusters=7), SklearnKMeans(7, n_init=1)], ids=repr)
def test_the_seed_decides_and_nothing_else_does(clusterer: Any) -> None:
    flat = np.random.default_rng(0).random((300, 4)).astype(np.float32)
    scores = Scores(flat, flat.mean(axis=1), np.ones(300, bool))

    def clusters(seed: int) -> list[int]:
        split: Split = make_split(scores, clusterer, ids=names(300), seed=seed)
        return split.cluster.tolist()

    np.random.seed(1)  # noqa: NPY002  a clusterer that used the global stream would follow it
    first = clusters(0)
    np.random.seed(2)  # noqa: NPY002
    assert clusters(0) == first
    assert clusters(1) != first


def test_within_strata_of_length_rows_are_hard_for_their_length() -> None:
    """Loss is length but for every fourth row of both sources, which is harder than others of its length."""
    tokens = np.repeat(np.arange(1, 9), 80).astype(np.int32)
    late = np.arange(640) % 8 < 2
    loss = (10 * tokens + 3 * late + np.arange(640) % 3 / 10).astype(np.float32)
    scores = Scores(loss[:, None], loss, np.ones(640, bool), tokens=tokens, ids=pa.array(map(str, range(640))))
    assert make_split(scores, KMeans()).hard.tolist() != late.tolist()
    for clusterer in (KMeans(), KMeans(per="source")):
        split = make_split(scores, clusterer, sources=["a", "b"] * 320, strata="length")
        assert split.hard.tolist() == late.tolist()
        assert split.strata == "length"
    with pytest.raises(InputError, match="strata: length needs counts of completion tokens"):
        make_split(replace(scores, tokens=None), KMeans(), strata="length")


def split_of(cluster: np.ndarray, hard: np.ndarray | None = None) -> Split:
    n = len(cluster)
    ids = pa.array([f"r{k}" for k in range(n)])
    hard = cluster > 0 if hard is None else hard
    return Split(ids, cluster.astype(np.int32), hard, np.zeros(n, np.float32), cluster != -2)


@pytest.mark.parametrize("seed", range(30))
def test_the_adjusted_rand_index_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 40)
    first, second = rng.integers(-2, rng.integers(0, 5), (2, n))
    valid = (first != -2) & (second != -2)
    found = agreement(split_of(first), split_of(second))["ari"]
    if not valid.any():
        assert found is None
    else:
        assert found == pytest.approx(adjusted_rand_score(first[valid], second[valid]), abs=1e-12)
    assert agreement(split_of(first), split_of(first))["ari"] in (1.0, None)


def test_ids_decide_whether_splits_are_of_the_same_rows_and_not_their_type() -> None:
    split = split_of(np.array([0, 1, 1]))
    wide = dataclasses.replace(split, ids=split.ids.cast(pa.large_string()))
    assert agreement(split, wide) == {"jaccard": 1.0, "ari": 1.0}
    for ids in (["r0", "r2", "r1"], ["r0", "r1"]):
        with pytest.raises(InputError, match="different rows"):
            agreement(split, dataclasses.replace(split, ids=pa.array(ids)))


def test_the_mean_is_over_pairs() -> None:
    splits = [split_of(np.array(each)) for each in ([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1])]
    found = mean_agreement(splits)
    assert found is not None
    assert found["seeds"] == 3
    assert found["jaccard"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["jaccard_min"] == pytest.approx(2 / 3)
    assert mean_agreement(splits[:1]) is None
