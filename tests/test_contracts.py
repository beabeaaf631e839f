"""The contract tests that plug-in authors run, on every component of ours, and on classes that break them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.mixture import GaussianMixture

from augmenters import Duplicate, Replay, Subset
from curate.checks import check_augmenter, check_clusterer, check_scorer
from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold
from curate.errors import InputError
from scorers import FinalLoss, LossTrajectory, RankAverage, SAMSharpness


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contracts")


class Length:
    """The three-line plug-in of the README."""

    def score(self, examples, run):
        return np.array([len(text) for text in examples.texts("completion", 0, len(examples))])


@pytest.mark.parametrize(
    "scorer",
    [
        LossTrajectory(),
        LossTrajectory(features="relative"),
        LossTrajectory(features="final"),
        FinalLoss(),
        SAMSharpness(),
        SAMSharpness(adaptive=True, rho=0.5, ascent="batch"),
        RankAverage(scorers=(FinalLoss(), Length())),
        Length(),
    ],
    ids=lambda part: type(part).__name__,
)
def test_scorers(scorer: object, cache: Path) -> None:
    check_scorer(scorer, cache=cache)


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(),
        KMeans(n_clusters=5),
        HDBSCAN(min_cluster_size=20),
        PerSource(clusterer=KMeans()),
        MiniBatchKMeans(2, n_init=3),
        GaussianMixture(2),
    ],
    ids=lambda part: type(part).__name__,
)
def test_clusterers(clusterer: object) -> None:
    check_clusterer(clusterer)


@pytest.mark.parametrize("clusterer", [Quantile(), Threshold(value=1.0)])
def test_cuts_are_clusterers_too(clusterer: object) -> None:
    check_clusterer(clusterer)


@pytest.mark.parametrize(
    "augmenter",
    [
        Duplicate(),
        Duplicate(times=3, cap=0.2, noise_guard=0.1),
        Duplicate(of="easy"),
        Duplicate(of="random"),
        Subset(size=0.3),
        Subset(size=5, choose="lowest_loss"),
        Subset(size=0.3, choose="random", per="source"),
        Replay(data="rows.parquet", share=0.2),
    ],
    ids=lambda part: type(part).__name__,
)
def test_augmenters(augmenter: object) -> None:
    check_augmenter(augmenter)


class NaNScorer:
    def score(self, examples, run):
        scores = LossTrajectory().score(examples, run)
        scores.features[0] = np.nan
        return scores


class RandomScorer:
    def score(self, examples, run):
        return np.random.default_rng().random(len(examples))


class ShortScorer:
    def score(self, examples, run):
        return np.zeros(3)


@pytest.mark.parametrize(
    ("scorer", "says"),
    [(RandomScorer(), "another answer"), (NaNScorer(), "not finite"), (object(), "method score")],
)
def test_broken_scorers_are_found(scorer: object, says: str, cache: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        check_scorer(scorer, cache=cache)


def test_a_scorer_of_the_wrong_length_is_found(cache: Path) -> None:
    with pytest.raises(InputError, match="for 24 examples"):
        check_scorer(ShortScorer(), cache=cache)


class Resurrecting:
    def plan(self, plan, split, seed):
        return plan.with_counts(np.ones(len(plan), np.int32))


class Mutating:
    def plan(self, plan, split, seed):
        plan.counts[:] = 2
        return plan


@pytest.mark.parametrize(("augmenter", "says"), [(Resurrecting(), "came back"), (Mutating(), "was changed")])
def test_broken_augmenters_are_found(augmenter: object, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_augmenter(augmenter)


class Floating:
    def fit_predict(self, X):
        return X[:, 0]


class Scaling:
    def fit_predict(self, X):
        X /= 2
        return np.zeros(len(X), int)


@pytest.mark.parametrize(("clusterer", "says"), [(Floating(), "not integers"), (Scaling(), "changed X")])
def test_broken_clusterers_are_found(clusterer: object, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_clusterer(clusterer)
