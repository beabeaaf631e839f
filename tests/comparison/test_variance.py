"""Tables of values that are paired: weights, sets, and what cannot be paired."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curate.comparison.statistics import paired_interval
from curate.errors import InputError
from tests.fixtures.studies import paired_tables


def test_equal_weights_and_one_set_change_nothing() -> None:
    arm, baseline = paired_tables(3, 50)
    plain = paired_interval(arm, baseline)
    assert paired_interval([arm], [baseline]) == plain
    weighted = paired_interval(arm, baseline, weights=np.full(50, 7.0))
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high))


def test_a_pool_is_the_weighted_sum_of_its_sets() -> None:
    one, other = paired_tables(3, 100), paired_tables(3, 50, seed=1)
    found = paired_interval([one[0], other[0]], [one[1], other[1]])
    joined = paired_interval(np.hstack([one[0], other[0]]), np.hstack([one[1], other[1]]))
    assert (found.difference, found.examples) == (pytest.approx(joined.difference), 150)
    single = [paired_interval(*each).difference for each in (one, other)]
    assert found.difference == pytest.approx((2 * single[0] + single[1]) / 3)
    even = paired_interval([one[0], other[0]], [one[1], other[1]], shares=[1, 1])
    assert even.difference == pytest.approx(sum(single) / 2)


def test_weights_make_a_ratio_of_sums() -> None:
    arm, baseline = paired_tables(3, 100)
    tokens = np.random.default_rng(0).integers(5, 100, 100)
    found = paired_interval(arm, baseline, weights=tokens)
    assert found.arm_mean == pytest.approx(float(((arm @ tokens) / tokens.sum()).mean()))
    # An example of twice the weight is not two examples, but one that counts for two.
    assert found.examples == 100


@pytest.mark.parametrize(
    ("arm", "baseline", "more", "says"),
    [
        (np.ones((3, 5)), np.ones((2, 5)), {}, "cannot be paired"),
        (np.ones((3, 5)), np.ones((3, 4)), {}, "cannot be paired"),
        (np.ones((3, 1)), np.ones((3, 1)), {}, "at least 2 examples"),
        (np.full((3, 5), np.nan), np.ones((3, 5)), {}, "not finite"),
        (np.ones((3, 5)), np.ones((3, 5)), {"weights": [1, 1, 1, 1, 0]}, "not a positive number"),
        (np.ones((3, 5)), np.ones((3, 5)), {"weights": [1, 1]}, "cannot be paired"),
        ([np.ones((3, 5))], [np.ones((3, 5))] * 2, {}, "same sets"),
        ([np.ones((3, 5))] * 2, [np.ones((3, 5))] * 2, {"shares": [1]}, "do not fit 2 sets"),
        (np.ones(5), np.ones(5), {}, "seeds x examples"),
    ],
)
def test_bad_tables_are_named(arm: Any, baseline: Any, more: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        paired_interval(arm, baseline, **more)
