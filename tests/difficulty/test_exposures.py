"""Exposures: formulas against rows counted in simulated batches, and curves read in logarithms."""

import numpy as np
import pytest

from curate.difficulty.exposures import (
    effective,
    effective_share,
    factor_for,
    fall_per_e_fold,
    last_e_fold,
    multiples,
    of_copied,
    read_curve,
)


def test_exposures_of_a_cluster_and_of_the_others() -> None:
    # A cluster of a tenth shown three times: k / (1 + (k - 1) h) and 1 / (1 + (k - 1) h).
    assert multiples({"hard": 2.0, "easy": 0.0}, 2.0 * 0.1) == pytest.approx({"hard": 3 / 1.2, "easy": 1 / 1.2})
    assert of_copied(0.1, 3) == pytest.approx((3 / 1.2, 1 / 1.2))
    assert of_copied(0.5, 2) == pytest.approx((4 / 3, 2 / 3))
    assert of_copied(1.0, 5) == pytest.approx((1.0, 0.2))
    for factor in (2, 3, 5):
        copied, others = of_copied(0.12, factor)
        assert 0.12 * copied + 0.88 * others == pytest.approx(1)


@pytest.mark.parametrize(("share", "factor"), [(0.1, 3), (0.4, 2), (0.05, 10)])
def test_they_are_what_counting_draws_gives(share: float, factor: int) -> None:
    """Rows drawn in shuffled passes, as many with copies as without."""
    n, drawn = 1_000, 40_000
    hard = np.arange(n) < share * n
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(n), np.where(hard, factor, 1))
    passes = [rng.permutation(rows) for _ in range(drawn // len(rows) + 1)]
    seen = np.bincount(np.concatenate(passes)[:drawn], minlength=n) / (drawn / n)
    assert (seen[hard].mean(), seen[~hard].mean()) == pytest.approx(of_copied(share, factor), rel=0.02)
    assert seen.sum() == pytest.approx(n)


def test_effective_rows_are_those_of_kish() -> None:
    counts = [3] * 4 + [1] * 6
    assert effective(0.4, 3) == pytest.approx(sum(counts) ** 2 / (10 * sum(c * c for c in counts)))
    assert effective_share(counts) == pytest.approx(effective(0.4, 3))
    assert effective_share([0.5] * 7) == pytest.approx(effective(0.4, 1)) == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.3, 0.45, 0.49])
@pytest.mark.parametrize("gain", [1.5, 2.0])
def test_the_factor_that_is_needed_is_the_least(share: float, gain: float) -> None:
    times = factor_for(gain, share)
    assert times is not None
    assert of_copied(share, times)[0] >= gain - 1e-9
    assert of_copied(share, times - 1)[0] < gain


def test_more_than_one_over_the_share_is_out_of_reach() -> None:
    assert factor_for(2.0, 0.5) is factor_for(2.0, 0.9) is None
    assert factor_for(1.0, 0.3) == 1
    assert factor_for(2.0, 1 / 3) == 4  # exactly: 2 (2/3) / (1/3)


def test_the_fall_per_e_fold_is_the_slope_over_the_logarithm_of_steps() -> None:
    steps = np.array([10, 20, 30, 40])
    losses = np.stack([3 - 0.25 * np.log(steps), np.full(4, 2.0)])
    assert fall_per_e_fold(steps, losses) == pytest.approx([0.25, 0], abs=1e-12)
    noisy = losses[0] + np.array([0.1, -0.1, 0.05, 0])
    assert fall_per_e_fold(steps, noisy) == pytest.approx(-np.polyfit(np.log(steps), noisy, 1)[0])


@pytest.mark.parametrize(
    ("steps", "columns"), [([10, 20, 30, 40], [1, 2, 3]), ([0, 1, 100], [1, 2]), ([0, 5], [1]), ([0], []), ([], [])]
)
def test_the_last_e_fold_of_checkpoints(steps: list[int], columns: list[int]) -> None:
    assert last_e_fold(steps).tolist() == columns


def test_a_curve_is_read_between_and_after_its_points() -> None:
    steps, losses = [1, 2, 4, 8], [8.0, 4.0, 2.0, 1.0]  # a power law
    assert read_curve(steps, losses, 3) == pytest.approx(8 / 3)
    assert read_curve(steps, losses, 16) == pytest.approx(0.5)
