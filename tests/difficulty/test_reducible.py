"""Reducible rows from held-out losses: shares, the estimated wrong share, and when nothing can be told."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from curate.difficulty.halves import Halves, make_halves
from curate.difficulty.reducible import Gains, gains, reducible_rows
from curate.errors import InputError

N = 3000


def _gains(wrong: float, right_gain: float = 1.5, seed: int = 0) -> tuple[Gains, np.ndarray, np.ndarray]:
    """Gains of rows of which a quarter are hard, (n,) which are hard, and which are wrong.

    Wrong rows gain as null rows do, about -0.5; right ones `right_gain`, easy ones a little.
    """
    rng = np.random.default_rng(seed)
    hard = np.arange(N) < N // 4
    bad = hard & (rng.random(N) < wrong)
    mean = np.where(bad, -0.5, np.where(hard, right_gain, 0.8))
    short = np.where(hard, 3.0, 0.5) + rng.normal(0, 0.2, N)
    null = rng.normal(-0.5, 0.6, 400)
    gained = rng.normal(mean, 0.6 if right_gain < 0 else 0.3 + 0.3 * bad)
    return Gains(gained, null, short, rng.normal(3.2, 0.3, 400), (3, 3), (0, 0)), hard, bad


@pytest.mark.parametrize("wrong", [0.0, 0.15, 0.5, 0.8])
def test_the_wrong_share_is_found(wrong: float) -> None:
    gained, hard, bad = _gains(wrong)
    found = reducible_rows(gained, hard, resamples=300)
    assert found.verdict == "estimated"
    assert found.wrong_share == pytest.approx(bad[hard].mean(), abs=0.06)
    low, high = found.interval or (1, 0)
    assert low - 0.03 <= bad[hard].mean() <= high + 0.03
    assert found.shares["null"] <= 0.11
    assert found.reducible[hard & ~bad].mean() > 0.9
    assert found.reducible[bad].mean() < 0.2 if wrong else not bad.any()
    assert found.rows["null"] > 300
    json.dumps(found.to_json())


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(40):
        gained, hard, bad = _gains(0.3, seed=seed)
        found = reducible_rows(gained, hard, resamples=200)
        assert found.interval is not None
        covered += found.interval[0] <= bad[hard].mean() <= found.interval[1]
    assert covered >= 30


def test_where_right_rows_gain_no_more_than_wrong_ones_nothing_can_be_told() -> None:
    gained, hard, _ = _gains(0.15, right_gain=-0.5)
    found = reducible_rows(gained, hard, resamples=200)
    assert (found.verdict, found.wrong_share, found.interval) == ("cannot tell", None, None)
    assert "hard rows gain as null rows do" in found.reason


def test_where_right_rows_gain_little_more_than_wrong_ones_nothing_can_be_told() -> None:
    gained, hard, bad = _gains(0.14)
    rng = np.random.default_rng(1)
    rows = np.where(hard & ~bad, rng.normal(0.3, 0.6, N), gained.rows)
    close = Gains(rows, gained.null, gained.short, gained.null_short, (3, 3), (0, 0))
    found = reducible_rows(close, hard, resamples=200)
    assert found.verdict == "cannot tell"
    assert "right rows gain as little as wrong ones" in found.reason


def test_few_rows_and_runs_without_a_gain_tell_nothing() -> None:
    gained, hard, _ = _gains(0.15)
    few = Gains(gained.rows, gained.null[:20], gained.short, gained.null_short[:20], (3, 3), (0, 0))
    assert "too few rows to compare" in reducible_rows(few, hard).reason
    assert "too few rows to compare: 0 hard rows" in reducible_rows(gained, np.zeros(N, bool)).reason
    still = Gains(gained.rows, gained.null, gained.short, gained.null_short, (0, 0), (0, 0))
    assert "gain nothing" in reducible_rows(still, hard).reason


def test_a_cut_is_never_below_zero_and_rows_without_a_gain_are_not_reducible() -> None:
    gained, hard, _ = _gains(0.0)
    low = gained.null - 3
    rows = gained.rows.copy()
    rows[:5] = np.nan
    rows[5:10] = -0.1
    found = reducible_rows(Gains(rows, low, gained.short, gained.null_short, (3, 3), (0, 0)), hard, resamples=50)
    assert found.cut == 0.0
    assert not found.reducible[:10].any()
    assert found.rows["hard"] == N // 4 - 5


def test_only_null_rows_with_the_loss_of_hard_rows_stand_for_wrong_ones() -> None:
    gained, hard, _ = _gains(0.3)
    learned = gained.null_short.copy()
    learned[:200] = 0.5  # completions that fit their prompt by chance
    null = gained.null.copy()
    null[:200] = 2.0
    found = reducible_rows(Gains(gained.rows, null, gained.short, learned, (3, 3), (0, 0)), hard, resamples=50)
    assert found.rows["null"] <= 200
    assert found.cut < 1.0


def test_the_same_seed_gives_the_same_interval() -> None:
    gained, hard, _ = _gains(0.3)
    first, second, other = (reducible_rows(gained, hard, seed=seed, resamples=50).interval for seed in (1, 1, 2))
    assert first == second != other


def _halves() -> Halves:
    return make_halves([str(k) for k in range(40)], np.ones(40), [f"c{k}" for k in range(40)], null_rows=6)


def test_gains_are_taken_at_the_best_checkpoint_of_each_half_without_null_rows() -> None:
    halves = _halves()
    losses = np.tile([3.0, 2.0, 1.0, 1.5], (40, 1))
    losses[halves.half == 0] = [3.0, 1.0, 2.0, 2.5]  # measured by the model of half 1, which overfits earlier
    null = np.tile([3.0, 4.0, 5.0, 0.0], (len(halves.null), 1))
    found = gains(losses, null, halves)
    assert found.best == (2, 1)
    assert found.since == (0, 0)
    np.testing.assert_allclose(found.rows, 2.0)
    np.testing.assert_allclose(found.null, np.where(halves.half[halves.null] == 0, -1.0, -2.0))
    np.testing.assert_allclose(found.short, 3.0)


def test_rows_without_a_loss_have_no_gain_and_do_not_choose_the_checkpoint() -> None:
    halves = _halves()
    losses: Any = np.tile([3.0, 2.0], (40, 1))
    losses[7] = np.nan
    found = gains(losses, np.full((len(halves.null), 2), 3.0), halves)
    assert found.best == (1, 1)
    assert np.flatnonzero(np.isnan(found.rows)).tolist() == [7]
    with pytest.raises(InputError, match="one number per row and checkpoint"):
        gains(losses[:5], np.ones((len(halves.null), 2)), halves)


def test_a_model_that_is_past_its_best_is_followed_from_earlier_on() -> None:
    halves = _halves()
    steps = np.array([5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.8, 3.0, 3.2])
    losses, null = np.tile(steps, (40, 1)), np.tile(steps, (len(halves.null), 1))
    found = gains(losses, null, halves, short=6)  # at its best one checkpoint before the proxy's length
    assert (found.best, found.since) == ((5, 5), (1, 1))
    np.testing.assert_allclose(found.rows, 2.0)
    np.testing.assert_allclose(found.short, 4.5)
    later = gains(losses, null, halves, short=4)
    assert (later.best, later.since) == ((5, 5), (4, 4))
    np.testing.assert_allclose(later.null, 0.5)
    assert gains(losses[:, 5:], null[:, 5:], halves, short=2).since == (0, 0)
