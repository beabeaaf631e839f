"""Plug-ins that break their contract are found."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from curate.checks import (
    check_augmenter,
    check_clusterer,
    check_generator,
    check_grader,
    check_scorer,
)
from curate.errors import InputError
from curate.generators.requests import Completion
from curate.verify import Verdict
from scorers import (
    LossTrajectory,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contracts")


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
    with pytest.raises(InputError, match=r"for 24 examples.*examples=curate\.read\(DATA\)\.examples"):
        check_scorer(ShortScorer(), cache=cache)


class Floating:
    def fit_predict(self, X):
        return X[:, 0]


class Scaling:
    def fit_predict(self, X):
        X /= 2
        return np.zeros(len(X), int)


class Careless:
    """Takes what it does not understand for right."""

    def grade(self, completion, reference, row):
        return Verdict.right if reference in completion or not completion.isprintable() else Verdict.wrong

    def grade_many(self, completions, references, rows, cut_off):
        return [self.grade(*each) for each in zip(completions, references, rows, strict=True)]


class Strict:
    def grade(self, completion, reference, row):
        return Verdict.wrong


@pytest.mark.parametrize(
    ("grader", "says"),
    [(Careless(), "cut off is right"), (Strict(), "right completion of row 0 is wrong"), (object(), "method grade")],
)
def test_broken_graders_are_found(grader: object, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_grader(grader)


@pytest.mark.parametrize(("clusterer", "says"), [(Floating(), "not integers"), (Scaling(), "changed X")])
def test_broken_clusterers_are_found(clusterer: object, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_clusterer(clusterer)


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


@dataclass(frozen=True)
class Echo:
    """The generator of the module's docstring, with a fault."""

    fault: str = ""

    def identity(self) -> str:
        return "echo"

    def serve(self, queue) -> None:
        batch = queue.take(4)
        while batch:
            for number, request in enumerate(batch):
                text = f"{request.prompt}{id(queue) if self.fault == 'random' else ''}"
                if self.fault != "lost" or number:
                    queue.done(request, Completion(text, "done" if self.fault == "reason" else "stop", 1, 1))
                if self.fault == "twice":
                    queue.done(request, Completion(text, "stop", 1, 1))
            batch = [] if self.fault == "early" else queue.take(4)


def test_a_generator_of_a_few_lines_keeps_the_contract() -> None:
    check_generator(Echo())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("random", "greedy"),
        ("lost", "not answered"),
        ("twice", "came twice"),
        ("early", "not taken"),
        ("reason", "finish_reason"),
    ],
)
def test_broken_generators_are_found(fault: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_generator(Echo(fault))
