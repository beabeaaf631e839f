"""Subset: the rows that are kept, by cluster, source or loss."""

import dataclasses

import numpy as np
import pytest

from augmenters import Duplicate, Subset
from curate.checks import small_examples
from curate.errors import InputError
from curate.mixture.plan import DROPPED, identity
from tests.fixtures.pipelines import pipeline_by_column
from tests.fixtures.splits import _split, knowing


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
    Subset(size=24).check_examples(examples)
    Subset(size=24, per="source").check_examples(examples)
    with pytest.raises(InputError, match=r"Subset\.size = 25 but the data has 24 rows"):
        Subset(size=25).check_examples(examples)
    bare = dataclasses.replace(examples, columns={"prompt": "prompt", "completion": "completion"})
    with pytest.raises(InputError, match="--columns source=COLUMN"):
        Subset(size=0.5, per="source").check_examples(bare)


def test_subset_sizes_and_reasons() -> None:
    split = _split([0] * 6 + [-2, -2], loss=[3, 1, 2, 0, 5, 4, 0, 0])
    plan = Subset(size=0.5, choose="lowest_loss").plan(identity(8), split, 0)
    assert np.flatnonzero(plan.counts).tolist() == [1, 2, 3]
    assert "lowest_loss" in plan.reasons[0]
    assert ((plan.counts == 0) == (plan.reason >= 0)).all()
    with pytest.raises(InputError, match="only 6 valid rows"):
        Subset(size=7).plan(identity(8), split, 0)
    assert Subset(size=1).plan(identity(8), split, 0).counts.sum() == 1


@pytest.mark.parametrize(("size", "pool", "epochs"), [(10, 25, 4), (0.1, 0.2, 3), (5, 60, 3), (8, None, 3)])
def test_rows_of_several_epochs_are_drawn_evenly_from_the_pool(size: float, pool: float | None, epochs: int) -> None:
    split = dataclasses.replace(_split([0, 1] * 50), final_loss=np.arange(100, dtype=np.float32)[::-1].copy())
    plan = Subset(size=size, choose="lowest_loss", epochs=epochs, pool=pool).plan(identity(100), split, 0)
    per_epoch = size if isinstance(size, int) else round(size * 100)
    among = per_epoch if pool is None else pool if isinstance(pool, int) else round(pool * 100)
    assert plan.epochs == epochs
    assert plan.counts.sum() == epochs * per_epoch
    assert not plan.counts[: 100 - among].any()  # the highest losses
    pooled = plan.counts[100 - among :]
    assert pooled.max() - pooled.min() <= 1
    assert pooled.max() <= epochs
    assert ((plan.reason >= 0) == (plan.counts == 0)).all()


def test_epochs_that_cannot_be() -> None:
    split = _split([0, 1] * 50)
    several = Subset(size=10, epochs=2, pool=20)
    with pytest.raises(InputError, match=r"Subset\.pool = 5 rows; choose from Subset\.size \(10\)"):
        Subset(size=10, epochs=2, pool=5).plan(identity(100), split, 0)
    with pytest.raises(InputError, match="leave out Duplicate"):
        several.plan(identity(100).with_counts(np.full(100, 2)), split, 0)
    for later in (Duplicate(), Subset(size=5)):
        with pytest.raises(InputError, match=r"cannot follow Subset\(epochs=2\)"):
            later.plan(several.plan(identity(100), split, 0), split, 0)
    with pytest.raises(ValueError, match="set epochs, or leave pool out"):
        Subset(size=10, pool=20)
    for changes in ({"order": "front"}, {"order": "keep"}, {"copies": "weights"}):
        with pytest.raises(ValueError, match="already have an order"):
            pipeline_by_column(augmenters=[several], **changes)


# Easy and hard rows of two sources; of each kind and source half are reducible.
KNOWN = knowing(
    dataclasses.replace(
        _split([0] * 20 + [1] * 20, hard=list(range(20, 40))), sources=np.array(["a", "b"] * 20, object)
    ),
    [*range(10), *range(20, 30)],
)


def test_irreducible_hard_rows_are_dropped_with_a_reason_and_all_easy_ones_stay() -> None:
    plan = Subset(drop="irreducible").plan(identity(40), KNOWN, 0)
    assert np.flatnonzero(plan.counts == 0).tolist() == list(range(30, 40))
    assert plan.reasons == (DROPPED,)
    copied = Duplicate().plan(plan, KNOWN, 0)
    assert np.flatnonzero(copied.counts == 2).tolist() == list(range(20, 30))
    sized = Subset(drop="irreducible", size=16, per="source").plan(identity(40), KNOWN, 0)
    assert sized.counts[::2].sum() == sized.counts[1::2].sum() == 8


def test_only_reducible_rows_are_kept_easy_ones_too() -> None:
    every = Subset(only="reducible").plan(identity(40), KNOWN, 0)
    assert np.flatnonzero(every.counts).tolist() == [*range(10), *range(20, 30)]
    some = Subset(only="reducible", size=8, per="source").plan(identity(40), KNOWN, 0)
    assert set(np.flatnonzero(some.counts)) < set(np.flatnonzero(every.counts))
    assert some.counts[::2].sum() == some.counts[1::2].sum() == 4
    with pytest.raises(InputError, match=r"Subset\.size = 21"):
        Subset(only="reducible", size=21).plan(identity(40), KNOWN, 0)


def test_nothing_is_dropped_where_it_cannot_be_told() -> None:
    unknown = knowing(KNOWN, [0], "cannot tell")
    for settings in ({"drop": "irreducible"}, {"only": "reducible"}):
        assert (Subset(**settings).plan(identity(40), unknown, 0).counts == 1).all()
    with pytest.raises(ValueError, match="give size"):
        Subset()
