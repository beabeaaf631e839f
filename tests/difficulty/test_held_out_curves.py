"""Held-out curves: which rows are held out, and predictions against curves that are known."""

import numpy as np
import pytest

from curate.difficulty.exposures import of_copied
from curate.difficulty.held_out_curves import (
    FACTORS,
    HeldOutCurves,
    described,
    falls,
    predicted_change,
    predictions,
    quarter,
    still_hard,
)
from tests.fixtures.splits import CURVE_STEPS, power_curves


def test_a_quarter_of_both_kinds_is_held_out_whatever_the_order() -> None:
    ids = [f"r{k}" for k in range(400)]
    hard, groups = np.arange(400) < 40, np.arange(400)
    groups[100:110] = 100
    found = quarter(ids, groups, hard)
    assert found[hard].sum() == 10
    assert abs(int(found[~hard].sum()) - 90) <= 9
    assert found[100:110].all() or not found[100:110].any()
    order = np.random.default_rng(1).permutation(400)
    np.testing.assert_array_equal(quarter([ids[k] for k in order], groups[order], hard[order]), found[order])


def test_a_group_of_more_than_a_quarter_is_trained_on() -> None:
    groups = np.where(np.arange(100) < 60, 0, np.arange(100))
    found = quarter([f"r{k}" for k in range(100)], groups, np.zeros(100, bool))
    assert not found[:60].any()
    assert 0 < found.sum() <= 25


@pytest.mark.parametrize("times", [2, 5])
def test_predictions_are_those_of_the_powers(times: int) -> None:
    m_hard, m_other = of_copied(0.1, times)
    hard, other = (4.0 * (1000 / 62) ** -0.5, 0.5 * (1000 / 62) ** -0.1)
    exact = (0.1 * hard * m_hard**-0.5 + 0.9 * other * m_other**-0.1) / (0.1 * hard + 0.9 * other) - 1
    found = {each.times: each for each in predictions(power_curves(noise=0))}
    assert list(found) == list(FACTORS)
    assert found[times].change == pytest.approx(exact, rel=1e-3)
    assert found[times].low == pytest.approx(exact, rel=1e-3)
    noisy = {each.times: each for each in predictions(power_curves(noise=0.5))}[times]
    assert noisy.low < exact < noisy.high
    assert noisy == {each.times: each for each in predictions(power_curves(noise=0.5))}[times]


def test_with_a_clock_curves_are_read_later() -> None:
    slow = HeldOutCurves(**{**vars(power_curves(noise=0)), "clock": 3.0})
    hard, other = (slow.mean(kind).tolist() for kind in (True, False))
    assert predictions(slow)[0].change == pytest.approx(
        predicted_change(CURVE_STEPS.tolist(), hard, other, 0.1, 3000, 2)
    )


def test_falls_are_those_of_the_last_e_fold_and_their_interval_holds_them() -> None:
    fall, low, high = falls(power_curves(noise=0.3), True)
    assert low < fall < high
    last = power_curves(noise=0).mean(True)[-1]
    assert falls(power_curves(noise=0), True)[0] == pytest.approx(0.5 * last, rel=0.4)


def test_rows_that_come_last_are_compared_with_those_called_hard() -> None:
    right = power_curves()
    assert still_hard(right) == 1
    wrong = HeldOutCurves(CURVE_STEPS, right.losses, np.roll(right.hard, 200), 0.1)
    assert still_hard(wrong) == 0
    assert still_hard(HeldOutCurves(CURVE_STEPS, right.losses, np.zeros(400, bool), 0.0)) == 0


def test_few_rows_of_a_kind_tell_nothing() -> None:
    few = power_curves(n=60)
    assert not few.sufficient
    assert predictions(few) == ()
    assert described(few)["hard"] is None
    assert described(power_curves())["hard"][-1] == pytest.approx(power_curves().mean(True)[-1], abs=1e-5)
