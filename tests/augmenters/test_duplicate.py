"""Duplicate: further copies of hard rows, or of as many others."""

import numpy as np
import pytest

from augmenters import Duplicate
from curate.errors import DataWarning, InputError
from curate.mixture.plan import identity
from tests.fixtures.splits import _split, knowing


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


def test_a_noise_guard_warns_and_still_guards() -> None:
    with pytest.warns(DataWarning, match="noise_guard is kept for earlier recipes: .*only: reducible"):
        Duplicate(noise_guard=0.1)
    with pytest.raises(ValueError, match="takes the place of noise_guard"):
        Duplicate(noise_guard=0.1, only="reducible")


HARD = knowing(_split([0] * 20 + [1] * 20, hard=list(range(20, 40))), [*range(8), *range(30, 40)])


def test_only_reducible_hard_rows_are_copied_and_the_cap_is_a_sample_of_them() -> None:
    plan = Duplicate(times=2, only="reducible").plan(identity(40), HARD, 0)
    assert np.flatnonzero(plan.counts == 3).tolist() == list(range(30, 40))
    capped = Duplicate(times=2, only="reducible", cap=0.2).plan(identity(40), HARD, 0)
    copied = np.flatnonzero(capped.counts == 3)
    assert len(copied) == 4
    assert set(copied) < set(range(30, 40))


@pytest.mark.parametrize(("of", "pool"), [("random", [*range(8), *range(30, 40)]), ("easy", range(8))])
def test_a_control_is_as_large_as_the_reducible_hard_rows_and_is_of_reducible_rows(of: str, pool: list[int]) -> None:
    plan = Duplicate(of=of, only="reducible").plan(identity(40), HARD, 0)
    assert plan.counts.sum() == 50
    assert set(np.flatnonzero(plan.counts > 1)) <= set(pool)


def test_where_it_cannot_be_told_nothing_is_filtered_and_where_it_is_not_known_the_message_says_how() -> None:
    unknown = knowing(HARD, [30], "cannot tell")
    for settings in ({}, {"cap": 0.1}, {"of": "random"}):
        told = Duplicate(only="reducible", **settings).plan(identity(40), unknown, 1)
        assert told.counts.tolist() == Duplicate(**settings).plan(identity(40), unknown, 1).counts.tolist()
    with pytest.raises(InputError, match="only: reducible needs to know"):
        Duplicate(only="reducible").plan(identity(2), _split([0, 1], hard=[1]), 0)


def test_a_number_that_is_forecast_has_to_be_resolved() -> None:
    split = _split([0, 1], hard=[1])
    with pytest.raises(InputError, match="in a Pipeline with forecast="):
        Duplicate(times="auto").plan(identity(2), split, 0)
    assert Duplicate(times="auto").with_copies(0).plan(identity(2), split, 0).counts.tolist() == [1, 1]
    assert Duplicate(times="auto").with_copies(3).plan(identity(2), split, 0).counts.tolist() == [1, 4]
    for wrong in ("many", 0):
        with pytest.raises(ValueError, match="times"):
            Duplicate.model_validate({"times": wrong})
