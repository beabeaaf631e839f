"""The plan: augmenters in turn, each with a seed of its own."""

import pytest

from curate.checks import small_split
from curate.errors import InputError
from curate.mixture.plan import fold


def test_a_plan_without_rows_is_refused() -> None:
    class Nothing:
        def plan(self, plan, split, seed):
            return plan.leave_out(plan.planned, "everything")

    with pytest.raises(InputError, match="holds no rows"):
        fold([Nothing()], small_split(24), 0)


def test_augmenters_get_seeds_of_their_own() -> None:
    seen = []

    class Spy:
        def plan(self, plan, split, seed):
            seen.append(seed)
            return plan

    fold([Spy(), Spy()], small_split(24), 0)
    fold([Spy(), Spy()], small_split(24), 1)
    assert len(set(seen)) == 4
