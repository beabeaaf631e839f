"""Products and averages of scorers."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from curate.clusterers import KMeans
from curate.errors import InputError
from curate.run import Run
from scorers import (
    ErrorNorm,
    FinalLoss,
    ForgettingCount,
    Length,
    Product,
    RankAverage,
)
from tests.fixtures.scored import examples_of

# -- combinations ---------------------------------------------------------------------------------------------------


class Given:
    """A plug-in that has its difficulties with it."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def fingerprint(self) -> str:
        return repr(self.values)

    def score(self, examples: Any, run: Any) -> Any:
        return np.array(self.values)


def test_products_of_ranks_and_of_scores() -> None:
    a, b = (3.0, 1.0, 2.0, np.nan, 2.0), (0.5, 8.0, 0.25, 1.0, 100.0)
    examples, valid = examples_of(5), [0, 1, 2, 4]
    ranks = Product(scorers=(Given(*a), Given(*b))).score(examples, Run())
    expected = rankdata(np.array(a)[valid]) / 4 * rankdata(np.array(b)[valid]) / 4
    np.testing.assert_allclose(ranks.difficulty[valid], expected)
    assert np.isnan(ranks.difficulty[3])
    assert not ranks.valid[3]
    scores = Product(scorers=(Given(*a), Given(*b)), of="scores").score(examples, Run())
    np.testing.assert_allclose(scores.difficulty[valid], (np.array(a) * b)[valid])
    with pytest.raises(InputError, match=r"Given gives row 0 the difficulty -1, .*choose Product\(of='ranks'\)"):
        Product(scorers=(Given(-1.0), Given(1.0)), of="scores").score(examples_of(1), Run())


def test_products_of_ranks_know_no_units() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    one = Product(scorers=(Given(*a), Given(*b))).score(examples_of(30), Run())
    other = Product(scorers=(Given(*np.exp(3 * a)), Given(*(b**3)))).score(examples_of(30), Run())
    np.testing.assert_array_equal(one.difficulty, other.difficulty)


def test_combinations_measure_each_thing_once() -> None:
    for kind in (Product, RankAverage):
        measures = kind(scorers=(FinalLoss(), ErrorNorm(), ForgettingCount(), Length())).measures()
        assert [type(each).__name__ for each in measures] == ["MeanLoss", "ErrorNorm", "TokenAccuracy"]


@pytest.mark.parametrize(
    ("scorers", "weights", "says"),
    [
        (("FinalLoss",), None, "write {use: FinalLoss}"),
        ((FinalLoss,), None, r"give an object of it, FinalLoss\(\)"),
        ((KMeans(),), None, "KMeans does not fit: a scorer has a method score"),
        ((FinalLoss(), Length()), (1.0,), "there are 2 scorers; give as many weights, not 1"),
        ((FinalLoss(),), (0.0,), "greater than 0"),
        ((FinalLoss(),), (float("nan"),), "weights"),
        ((FinalLoss(),), (float("inf"),), "finite"),
    ],
    ids=["name", "class", "clusterer", "number", "zero", "nan", "infinite"],
)
def test_rank_average_checks_its_parts_when_it_is_made(scorers: tuple, weights: tuple | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RankAverage(scorers=scorers, weights=weights)
