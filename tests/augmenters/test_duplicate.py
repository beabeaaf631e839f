"""Duplicate: further copies of hard rows, or of as many others."""

import numpy as np
import pytest

from augmenters import Duplicate
from curate.errors import InputError
from curate.mixture.plan import identity
from tests.fixtures.splits import _split


def test_duplicate_counts_extra_copies_of_exactly_the_hard_rows() -> None:
    split = _split([0, 1, 0, 1, -2], hard=[1, 3])
    plan = Duplicate(times=2).plan(identity(5), split, 0)
    assert plan.counts.tolist() == [1, 3, 1, 3, 1]


def test_duplicate_skips_rows_left_out_before_and_adds_to_copies_made_before() -> None:
    split = _split([0, 1, 1, 1], hard=[1, 2, 3])
    start = identity(4).leave_out(np.array([False, True, False, False]), "gone")
    plan = Duplicate(times=1).plan(Duplicate(times=1).plan(start, split, 0), split, 0)
    assert plan.counts.tolist() == [1, 0, 3, 3]


def test_noise_guard_leaves_out_the_highest_final_losses() -> None:
    split = _split([1] * 10, hard=list(range(10)), loss=[5, 1, 9, 2, 3, 4, 8, 6, 7, 0.5])
    plan = Duplicate(noise_guard=0.3).plan(identity(10), split, 0)
    assert np.flatnonzero(plan.counts == 1).tolist() == [2, 6, 8]


def test_noise_guard_without_losses_says_what_to_do() -> None:
    with pytest.raises(InputError, match="noise_guard: 0"):
        Duplicate(noise_guard=0.1).plan(identity(2), _split([0, 1], hard=[1]), 0)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_cap_bounds_the_extra_rows(times: int) -> None:
    split = _split([1] * 100, hard=list(range(80)))
    plan = Duplicate(times=times, cap=0.25).plan(identity(100), split, 0)
    assert 25 - times < plan.counts.sum() - 100 <= 25


@pytest.mark.parametrize("times", [0, 1000, 2**31])
def test_duplicate_times_has_bounds(times: int) -> None:
    with pytest.raises(ValueError, match="times"):
        Duplicate(times=times)
