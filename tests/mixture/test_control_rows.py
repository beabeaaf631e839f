"""Control rows: as many as they stand in for, and like them where they should be."""

import dataclasses

import numpy as np
import pytest

from augmenters import Duplicate
from curate.checks import small_split
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.control_rows import _nearest
from curate.mixture.plan import Plan, identity
from tests.fixtures.splits import _split


def _an_eighth_hard() -> Split:
    """400 rows, so that there is something to choose from."""
    split = small_split(400)
    return dataclasses.replace(split, hard=split.hard & (np.arange(400) % 4 == 0))


CONTROLS = ("easy", "random", "matched", "final_loss")


def _extra(plan: Plan) -> np.ndarray:
    """(m,) positions of the extra rows, as often as each is added."""
    return np.repeat(np.arange(len(plan)), plan.counts - 1)


@pytest.mark.parametrize("of", CONTROLS)
@pytest.mark.parametrize("settings", [{}, {"times": 3}, {"cap": 0.07}, {"noise_guard": 0.1, "cap": 0.2}])
def test_a_control_adds_exactly_as_many_rows_and_no_invalid_one(of: str, settings: dict[str, float]) -> None:
    split = _an_eighth_hard()
    hard = Duplicate(**settings).plan(identity(400), split, 3)
    control = Duplicate(of=of, **settings).plan(identity(400), split, 3)
    assert control.counts.sum() == hard.counts.sum() > 400
    assert np.array_equal(np.bincount(control.counts), np.bincount(hard.counts))
    assert control.counts[~split.valid].max() == 1


@pytest.mark.parametrize("of", CONTROLS)
def test_a_control_of_nothing_is_nothing_and_rows_left_out_stay_out(of: str) -> None:
    split = dataclasses.replace(small_split(40), hard=np.zeros(40, np.bool_))
    assert Duplicate(of=of).plan(identity(40), split, 0).counts.tolist() == [1] * 40
    split = small_split(400)
    start = identity(400).leave_out(np.arange(400) % 2 == 0, "gone")
    control = Duplicate(of=of).plan(start, split, 0)
    assert not control.counts[::2].any()
    assert control.counts.sum() == Duplicate().plan(start, split, 0).counts.sum()


@pytest.mark.parametrize("of", ["easy", "random", "matched"])
def test_a_control_is_drawn_anew_by_seed_and_by_draw(of: str) -> None:
    split = _an_eighth_hard()
    drawn = [Duplicate(of=of, draw=draw).plan(identity(400), split, seed) for seed, draw in [(0, 0), (0, 1), (1, 0)]]
    again = Duplicate(of=of, draw=1).plan(identity(400), split, 0)
    assert np.array_equal(drawn[1].counts, again.counts)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert not np.array_equal(drawn[one].counts, drawn[other].counts)


def test_easy_rows_are_not_hard_and_random_ones_are_as_often_as_any_row() -> None:
    split = small_split(400)
    easy = Duplicate(of="easy").plan(identity(400), split, 0)
    assert not split.hard[_extra(easy)].any()
    share = [split.hard[_extra(Duplicate(of="random", draw=k).plan(identity(400), split, 0))].mean() for k in range(20)]
    assert np.mean(share) == pytest.approx(split.hard.mean(), abs=0.03)


def test_few_easy_rows_serve_more_than_once_but_evenly() -> None:
    split = _split([0, 0, 0] + [1] * 8, hard=list(range(3, 11)))
    plan = Duplicate(of="easy").plan(identity(11), split, 0)
    assert sorted(plan.counts[:3].tolist()) == [3, 4, 4]
    assert plan.counts[3:].tolist() == [1] * 8
    all_hard = _split([1] * 4, hard=list(range(4)))
    with pytest.raises(InputError, match="leave this control out"):
        Duplicate(of="easy").plan(identity(4), all_hard, 0)


def test_matched_rows_are_easy_ones_of_the_same_sources_and_lengths() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    sources = np.array(["a", "b", None], object)[rng.integers(0, 3, n)]
    tokens = rng.integers(5, 300, n).astype(np.int32)
    hard = rng.random(n) < tokens / 1000  # long rows are hard more often
    split = dataclasses.replace(_split([0] * n, hard=np.flatnonzero(hard).tolist()), sources=sources, tokens=tokens)
    copied = _extra(Duplicate().plan(identity(n), split, 0))
    matched = _extra(Duplicate(of="matched").plan(identity(n), split, 0))
    assert not hard[matched].any()
    assert len(np.unique(matched)) == len(matched)
    for name in ("a", "b", None):
        mine, theirs = copied[sources[copied] == name], matched[sources[matched] == name]
        assert len(mine) == len(theirs)
        assert np.abs(np.sort(tokens[mine]) - np.sort(tokens[theirs])).mean() < 2
    random = _extra(Duplicate(of="random").plan(identity(n), split, 0))
    assert tokens[random].mean() < tokens[copied].mean() - 20 < tokens[matched].mean()


def test_nearest_free_length_is_the_one_a_plain_search_finds() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        lengths = np.sort(rng.integers(0, 12, rng.integers(1, 15))).astype(np.int32)
        wanted = rng.integers(-2, 15, rng.integers(1, len(lengths) + 1)).astype(np.int32)
        free = dict(enumerate(lengths.tolist()))
        places = _nearest(wanted, lengths)
        assert len(set(places.tolist())) == len(places)
        for length, place in zip(wanted.tolist(), places.tolist(), strict=True):
            assert abs(free.pop(place) - length) == min(
                abs(other - length) for other in [*free.values(), lengths[place]]
            )


def test_a_source_without_an_easy_row_is_matched_by_length_alone_and_small_pools_serve_evenly() -> None:
    split = dataclasses.replace(
        _split([1, 1, 0, 1, 1, 1], hard=[0, 1, 3, 4, 5]),
        sources=np.array(["a", "a", "b", "b", "b", "b"], object),
        tokens=np.array([5, 9, 1, 2, 3, 4], np.int32),
    )
    assert Duplicate(of="matched").plan(identity(6), split, 0).counts.tolist() == [1, 1, 6, 1, 1, 1]
    apart = dataclasses.replace(
        _split([1, 1, 0, 0, 0, 0], hard=[0, 1]),
        sources=np.array(["a", "a", "b", "b", "c", "c"], object),
        tokens=np.array([5, 9, 1, 6, 30, 8], np.int32),
    )
    assert Duplicate(of="matched").plan(identity(6), apart, 0).counts.tolist() == [1, 1, 1, 2, 1, 2]
    all_hard = dataclasses.replace(_split([1] * 4, hard=list(range(4))), tokens=np.arange(4, dtype=np.int32))
    with pytest.raises(InputError, match="leave this control out"):
        Duplicate(of="matched").plan(identity(4), all_hard, 0)


def test_final_loss_takes_the_highest_within_each_source_where_the_split_does() -> None:
    loss = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]
    split = dataclasses.replace(
        _split([0, 1, 0, 0, 1, 0], hard=[1, 4], loss=loss), sources=np.array(["a"] * 3 + ["b"] * 3, object)
    )
    assert np.flatnonzero(Duplicate(of="final_loss").plan(identity(6), split, 0).counts == 2).tolist() == [4, 5]
    each = dataclasses.replace(split, per_source=True)
    assert np.flatnonzero(Duplicate(of="final_loss").plan(identity(6), each, 0).counts == 2).tolist() == [2, 5]


@pytest.mark.parametrize(("of", "missing"), [("matched", "token counts"), ("final_loss", "losses")])
def test_controls_say_what_the_scorer_did_not_record(of: str, missing: str) -> None:
    with pytest.raises(InputError, match=f"needs {missing}"):
        Duplicate(of=of).plan(identity(3), _split([0, 1, 1], hard=[1, 2]), 0)
