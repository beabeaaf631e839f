"""Duplicate, Subset, Replay and the fold over them."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from augmenters import Duplicate, Replay, Subset
from curate.checks import small_examples, small_split
from curate.errors import InputError
from curate.plan import fold, identity, realize, share_counts
from curate.protocols import Preflight
from curate.run import Run
from curate.scores import Split


def _split(cluster: list[int], hard: list[int] | None = None, loss: list[float] | None = None) -> Split:
    n = len(cluster)
    mask = np.zeros(n, np.bool_)
    mask[hard or []] = True
    difficulty = np.array(loss if loss is not None else range(n), np.float32)
    return Split(
        ids=pa.array([f"row{i}" for i in range(n)]),
        cluster=np.array(cluster, np.int32),
        hard=mask,
        difficulty=difficulty,
        valid=np.array(cluster) > -2,
        final_loss=None if loss is None else difficulty,
        sources=None,
    )


def test_duplicate_counts_extra_copies_of_exactly_the_hard_rows() -> None:
    split = _split([0, 1, 0, 1, -2], hard=[1, 3])
    plan = Duplicate(times=2).plan(identity(5), split, 0)
    assert plan.counts.tolist() == [1, 3, 1, 3, 1]


def test_duplicate_skips_rows_left_out_before_and_adds_to_copies_made_before() -> None:
    split = _split([0, 1, 1, 1], hard=[1, 2, 3])
    start = identity(4).leave_out(np.array([False, True, False, False]), "gone")
    plan = Duplicate(times=1).plan(Duplicate(times=1).plan(start, split, 0), split, 0)
    assert plan.counts.tolist() == [1, 0, 3, 3]


def test_controls_pick_easy_rows_or_as_many_random_ones() -> None:
    split = small_split(400)
    easy = Duplicate(of="easy").plan(identity(400), split, 0).counts
    assert np.array_equal(easy == 2, split.valid & ~split.hard)
    one = Duplicate(of="random").plan(identity(400), split, 1).counts
    other = Duplicate(of="random").plan(identity(400), split, 2).counts
    assert (one == 2).sum() == (other == 2).sum() == split.hard.sum()
    assert not np.array_equal(one, other)
    assert one[~split.valid].max() == 1


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


def test_balanced_subset_follows_s2l() -> None:
    """Clusters of 2, 5 and 93 rows, 30 wanted: all of the first two, the rest from the third."""
    split = _split([0] * 2 + [1] * 5 + [2] * 93)
    plan = Subset(size=30).plan(identity(100), split, 0)
    kept = np.bincount(split.cluster[plan.counts == 1])
    assert kept.tolist() == [2, 5, 23]
    even = Subset(size=30).plan(identity(90), _split([0] * 30 + [1] * 30 + [2] * 30), 0)
    assert even.counts.reshape(3, 30).sum(axis=1).tolist() == [10, 10, 10]


def test_subset_per_source_balances_sources_first() -> None:
    split = dataclasses.replace(_split([0, 1] * 50), sources=np.array(["a"] * 10 + ["b"] * 90, object))
    plan = Subset(size=40, per="source").plan(identity(100), split, 0)
    assert plan.counts[:10].sum() == 10
    assert plan.counts[10:].sum() == 30


def test_rows_without_a_source_are_not_those_of_a_source_called_none() -> None:
    """Three sources of 10, 10 and 80 rows, 30 wanted: ten of each."""
    sources = np.array([None] * 10 + ["None"] * 10 + ["b"] * 80, object)
    split = dataclasses.replace(_split([0, 1] * 50), sources=sources)
    plan = Subset(size=30, per="source").plan(identity(100), split, 0)
    assert [plan.counts[:10].sum(), plan.counts[10:20].sum(), plan.counts[20:].sum()] == [10, 10, 10]


def test_subset_knows_from_the_data_alone_what_cannot_be() -> None:
    examples = small_examples(24)
    assert isinstance(Subset(size=24), Preflight)
    Subset(size=24, per="source").check_examples(examples)
    with pytest.raises(InputError, match=r"Subset\.size = 25 but the data has 24 rows"):
        Subset(size=25).check_examples(examples)
    bare = dataclasses.replace(examples, columns={"prompt": "prompt", "completion": "completion"})
    with pytest.raises(InputError, match="--columns source=COLUMN"):
        Subset(size=0.5, per="source").check_examples(bare)


@pytest.mark.parametrize("times", [0, 1000, 2**31])
def test_duplicate_times_has_bounds(times: int) -> None:
    with pytest.raises(ValueError, match="times"):
        Duplicate(times=times)


def test_subset_sizes_and_reasons() -> None:
    split = _split([0] * 6 + [-2, -2], loss=[3, 1, 2, 0, 5, 4, 0, 0])
    plan = Subset(size=0.5, choose="lowest_loss").plan(identity(8), split, 0)
    assert np.flatnonzero(plan.counts).tolist() == [1, 2, 3]
    assert "lowest_loss" in plan.reasons[0]
    assert ((plan.counts == 0) == (plan.reason >= 0)).all()
    with pytest.raises(InputError, match="only 6 valid rows"):
        Subset(size=7).plan(identity(8), split, 0)
    assert Subset(size=1).plan(identity(8), split, 0).counts.sum() == 1


def test_share_is_of_the_final_rows() -> None:
    replay = [Replay(data="x", share=0.2), Replay(data="y", share=0.3)]
    plan = fold(replay, small_split(24), 0)
    counts = [request.count for request in share_counts(plan, made=26)]
    others = 24 + 26
    assert counts == [20, 30]
    assert counts[0] / (others + sum(counts)) == pytest.approx(0.2)
    with pytest.raises(InputError, match="add up to"):
        share_counts(fold([Replay(data="x", share=0.6), Replay(data="y", share=0.4)], small_split(24), 0), 0)


def test_replay_fills_its_share_after_copies_and_keeps_the_inputs_columns() -> None:
    examples = small_examples(24)
    other = pa.table({"question": [f"q{i}" for i in range(50)], "answer": [f"a{i}" for i in range(50)], "x": range(50)})
    augmenters = [Replay(data=other, share=0.25, shape="question_answer"), Duplicate(times=1)]
    with pytest.raises(InputError, match="shape question_answer"):
        realize(fold(augmenters, small_split(24), 0), examples, Run())
    same = other.rename_columns(["prompt", "completion", "x"])
    plan = fold([Replay(data=same, share=0.25), Duplicate(times=1)], small_split(24), 0)
    (realized,) = realize(plan, examples, Run())
    others = int(plan.counts.sum())
    assert len(realized.rows.ids) / (others + len(realized.rows.ids)) == pytest.approx(0.25, abs=0.01)
    assert realized.rows.table.schema.equals(examples.table.schema)
    assert realized.rows.table.column("source").null_count == len(realized.rows.ids)
    assert len(set(realized.rows.ids)) == len(realized.rows.ids)


def test_replay_that_cannot_fill_its_share_is_refused() -> None:
    tiny = pa.table({"prompt": ["p"], "completion": ["c"]})
    with pytest.raises(InputError, match="lower the share"):
        realize(fold([Replay(data=tiny, share=0.5)], small_split(24), 0), small_examples(24), Run())


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
