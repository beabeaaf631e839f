"""The statistics of a comparison: exact where theory is, of the promised coverage where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.comparison import design, power
from curate.comparison.statistics import detectable_effect, holm, paired_interval
from curate.errors import InputError
from tests.fixtures.studies import paired_tables

# -- where theory says what the interval is ----------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "slack"), [(2, 0.03), (3, 0.01), (10, 0.002)])
def test_without_differences_between_examples_it_is_the_t_test_on_seed_means(seeds: int, slack: float) -> None:
    shift = np.random.default_rng(1).normal(size=(seeds, 1))
    found = paired_interval(np.repeat(5 + shift, 2000, axis=1), np.full((seeds, 2000), 5.0))
    wanted = stats.ttest_1samp(shift[:, 0], 0).confidence_interval()
    assert found.low == pytest.approx(wanted.low, abs=slack * (wanted.high - wanted.low))
    assert found.high == pytest.approx(wanted.high, abs=slack * (wanted.high - wanted.low))
    assert found.p == pytest.approx(stats.ttest_1samp(shift[:, 0], 0).pvalue, rel=0.02)


@pytest.mark.parametrize("n", [5, 40, 400])
def test_one_seed_is_the_paired_t_test_over_examples(n: int) -> None:
    arm, baseline = paired_tables(1, n)
    found = paired_interval(arm, baseline)
    wanted = stats.ttest_rel(arm[0], baseline[0])
    interval = wanted.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.01)
    assert found.p == pytest.approx(wanted.pvalue, rel=0.01)
    assert (found.seeds, found.examples) == (1, n)


def test_where_seeds_agree_it_is_the_paired_interval_over_examples() -> None:
    arm, baseline = (np.repeat(each, 5, axis=0) for each in paired_tables(1, 300))
    found = paired_interval(arm, baseline)
    wanted = stats.ttest_rel(arm[0], baseline[0]).confidence_interval()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=0.01)


def test_the_relative_interval_is_that_of_fieller() -> None:
    """One seed: the roots of the quadratic in the ratio, from the covariance of the two means."""
    arm, baseline = paired_tables(1, 400)
    found = paired_interval(arm, baseline)
    a, b = arm.mean(), baseline.mean()
    (vaa, vab), (_, vbb) = np.cov(np.vstack([arm[0], baseline[0]])) / 400
    t2 = stats.t.ppf(0.975, 399) ** 2
    roots = np.sort(np.roots([b * b - t2 * vbb, -2 * (a * b - t2 * vab), a * a - t2 * vaa]))
    assert (found.relative_low, found.relative_high) == pytest.approx(tuple(roots - 1), abs=2e-4)


# -- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_absolute_and_relative_interval_and_p_agree_about_zero(seed: int) -> None:
    arm, baseline = paired_tables(3, 60, of_seeds=0.05, seed=seed)
    edge = paired_interval(arm, baseline)
    step = 0.001 * (edge.high - edge.low)
    for shift, inside in ((edge.low + step, True), (edge.low - step, False), (edge.high + step, False)):
        found = paired_interval(arm - shift, baseline)
        assert (found.low <= 0 <= found.high) is inside
        assert found.relative_low is not None
        assert found.relative_high is not None
        assert (found.relative_low <= 0 <= found.relative_high) is inside
        assert (found.p > 0.05) is inside


def test_exchanging_arm_and_baseline_turns_the_interval_round() -> None:
    arm, baseline = paired_tables(4, 80)
    one, other = paired_interval(arm, baseline), paired_interval(baseline, arm)
    assert (one.low, one.high, one.p) == pytest.approx((-other.high, -other.low, other.p))
    assert one.relative_low is not None
    assert other.relative_high is not None
    assert 1 + one.relative_low == pytest.approx(1 / (1 + other.relative_high), rel=1e-4)


def test_the_order_of_seeds_and_examples_does_not_matter() -> None:
    arm, baseline = paired_tables(4, 80)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(4), rng.permutation(80)
    one = paired_interval(arm, baseline)
    other = paired_interval(arm[rows][:, columns], baseline[rows][:, columns])
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_pairing_counts() -> None:
    """Examples differ far more than arms do; pairing them with others' would drown the difference."""
    arm, baseline = paired_tables(3, 200, of_seeds=0.01, of_examples=0.05)
    paired = paired_interval(arm + 0.2, baseline)
    broken = paired_interval((arm + 0.2)[:, ::-1], baseline)
    assert paired.low > 0
    assert broken.high - broken.low > 3 * (paired.high - paired.low)


def test_few_answers_that_all_agree_are_no_certainty() -> None:
    right = np.ones((3, 8))
    found = paired_interval(right, right, discrete=True)
    assert found.high == -found.low > 0.1
    assert found.p == pytest.approx(1)
    many = np.ones((3, 4000))
    assert paired_interval(many, many, discrete=True).high < 0.001


def test_a_baseline_at_zero_has_no_relative_difference() -> None:
    arm = np.zeros((3, 20))
    arm[:, 0] = 1
    found = paired_interval(arm, np.zeros((3, 20)), discrete=True)
    assert (found.relative, found.relative_low, found.relative_high) == (None, None, None)
    near = np.zeros((3, 20))
    near[:, 1] = 1
    found = paired_interval(arm, near, discrete=True)
    assert found.relative == pytest.approx(0)
    assert found.relative_high is None


def test_more_seeds_and_more_examples_narrow_the_interval() -> None:
    def width(seeds: int, n: int) -> float:
        found = [paired_interval(*paired_tables(seeds, n, seed=k)) for k in range(20)]
        return float(np.median([each.high - each.low for each in found]))

    assert width(10, 100) < 0.7 * width(3, 100)
    assert width(10, 800) < 0.8 * width(10, 100)


# -- coverage --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["accuracy", "nll", "pooled"])
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 1.0), (5, 0.15)])
def test_identical_arms_are_told_apart_one_time_in_twenty(kind: str, seeds: int, spread: float) -> None:
    """300 draws: three standard errors are 3.8 %. The whole study is benchmarks/comparison.py."""
    found = design(kind, seeds, 100, spread, 0.0, 0.0, 300, 0, seed=seeds)
    assert 0.01 <= found["told_apart"] <= 0.09
    assert found["coverage"] == pytest.approx(1 - found["told_apart"], abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "gain"), [("accuracy", 0.4), ("nll", -0.05), ("pooled", 0.4)])
@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.15), (5, 1.0)])
def test_intervals_hold_the_truth_where_arms_differ(kind: str, gain: float, seeds: int, spread: float) -> None:
    found = design(kind, seeds, 100, spread, 0.5, gain, 250, 0, seed=1)
    assert 0.91 <= found["coverage"] <= 1
    assert 0.91 <= found["coverage_relative"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "rate"), [(3, 0.01), (5, 0.01), (3, 0.02), (5, 0.05)])
def test_a_gain_on_few_answers_is_not_missed(seeds: int, rate: float) -> None:
    """Greedy answers, the same in every seed but for the few that the arm puts right."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(150):
        won = rng.random(100) < rate
        baseline = np.where(won, 0.0, rng.random(100) < 0.4)
        found = paired_interval(
            np.tile(np.where(won, 1.0, baseline), (seeds, 1)), np.tile(baseline, (seeds, 1)), discrete=True
        )
        held += found.low <= rate <= found.high
    assert held >= 0.93 * 150


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_detectable_effect_is_found_four_times_in_five(seeds: int) -> None:
    assert power(seeds, 100, 0.15, 250, seed=3)["found"] == pytest.approx(0.8, abs=0.08)


def test_detectable_effects_shrink_with_seeds_and_are_known_before_the_other_arms() -> None:
    _, baseline = paired_tables(5, 200)
    planned = [detectable_effect(baseline, seeds=seeds).absolute for seeds in (2, 3, 5, 10)]
    assert planned == sorted(planned, reverse=True)
    found = detectable_effect(baseline)
    assert found.seeds == 5
    assert found.relative == pytest.approx(found.absolute / baseline.mean())
    assert detectable_effect(baseline, power=0.95).absolute > found.absolute


def test_a_single_seed_of_the_baseline_says_nothing_about_seeds() -> None:
    arm, baseline = paired_tables(1, 50)
    with pytest.raises(InputError, match="two seeds or more"):
        detectable_effect(baseline)
    known = detectable_effect(baseline, arm)
    interval = paired_interval(arm, baseline)
    half = (interval.high - interval.low) / 2
    assert known.absolute == pytest.approx(half * (1.96 + 0.84) / 1.96, rel=0.03)


def test_holm_multiplies_by_what_is_left_and_never_reorders() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# -- bad input -------------------------------------------------------------------------------------------------------
