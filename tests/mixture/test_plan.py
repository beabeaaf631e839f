"""The plan: augmenters in turn, each with a seed of its own."""

import numpy as np
import pytest

from augmenters import Duplicate, Replay
from curate.checks import (
    small_split,
)
from curate.errors import InputError
from curate.mixture.plan import fold, identity, share_counts
from tests.fixtures.pipelines import _contract_table, _with_known


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


def test_share_is_of_the_final_rows() -> None:
    replay = [Replay(data="x", share=0.2), Replay(data="y", share=0.3)]
    plan = fold(replay, small_split(24), 0)
    counts = [request.count for request in share_counts(plan, made=26)]
    others = 24 + 26
    assert counts == [20, 30]
    assert counts[0] / (others + sum(counts)) == pytest.approx(0.2)
    with pytest.raises(InputError, match="add up to"):
        share_counts(fold([Replay(data="x", share=0.6), Replay(data="y", share=0.4)], small_split(24), 0), 0)


def test_an_empty_plan_names_the_augmenter() -> None:
    class Nothing:
        def plan(self, plan, split, seed):
            return plan.leave_out(plan.planned, "none is wanted")

    with pytest.raises(InputError, match=r"after augmenter 1 \(Nothing\) the plan holds no rows"):
        _with_known(augmenters=[Duplicate(), Nothing()]).run(_contract_table())


class Returning:
    def __init__(self, change):
        self.change = change

    def plan(self, plan, split, seed):
        return self.change(plan)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plan: None, "returned NoneType"),
        (lambda plan: identity(3), "must return a Plan of 24 rows"),
        (lambda plan: plan.with_counts(np.full(24, -1)), "planned row 0 -1 times"),
    ],
)
def test_a_broken_plan_is_named(change, says: str) -> None:
    with pytest.raises(InputError, match=rf"augmenter 0 \(Returning\).*{says}"):
        fold([Returning(change)], small_split(24))


def test_a_row_dropped_without_a_reason_gets_one() -> None:
    def drop(plan):
        counts = plan.counts.copy()
        counts[:4] = 0
        return plan.with_counts(counts)

    plan = fold([Returning(drop)], small_split(24))
    assert [plan.reasons[k] for k in plan.reason[:4]] == ["left out by augmenter 0 (Returning)"] * 4
    assert (plan.reason[4:] == -1).all()
