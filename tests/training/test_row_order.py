"""The order of rows: every row once an epoch, in full batches and in the cheapest micro-batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from curate.training.row_order import RowOrder, micro_batches, rank_micro_batches

# -- which rows, at which rate ---------------------------------------------------------------------------------


def test_every_epoch_visits_every_row_once_and_batches_are_full() -> None:
    rows = np.array([0, 2, 3, 7, 8, 9, 11, 12, 15, 16, 40])
    order = RowOrder(rows, batch_size=4, seed=1)
    stream = np.concatenate([order.batch(step) for step in range(33)])
    assert len(stream) == 4 * 33
    epochs = stream.reshape(12, 11)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), rows)
    assert len({tuple(epoch) for epoch in epochs}) == 12
    np.testing.assert_array_equal(RowOrder(rows, 4, 1).batch(31), order.batch(31))
    assert not np.array_equal(RowOrder(rows, 4, 2).batch(0), order.batch(0))
    assert len(RowOrder(rows, 30, 0).batch(2)) == 30


@pytest.mark.parametrize("budget", [1, 100, 300, 100_000])
def test_micro_batches_hold_every_row_once_within_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(5, 120, 32)
    parts = micro_batches(lengths, budget, pass_cost=20)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(32))
    for part in parts:
        assert len(part) == 1 or len(part) * lengths[part].max() <= budget


def test_micro_batches_are_the_cheapest_split() -> None:
    lengths = np.array([9, 2, 3, 8, 2, 15])
    ordered, budget, pass_cost = np.sort(lengths), 20, 4

    def cost(parts: list[Any]) -> float:
        if any(len(part) > 1 and len(part) * part.max() > budget for part in parts):
            return math.inf
        return sum(len(part) * part.max() + pass_cost for part in parts)

    splits = [np.split(ordered, [i + 1 for i in range(5) if cuts >> i & 1]) for cuts in range(32)]
    assert cost([lengths[part] for part in micro_batches(lengths, budget, pass_cost)]) == min(map(cost, splits))


@pytest.mark.parametrize("equally_many", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_ranks_share_the_rows_of_a_batch_in_equally_many_passes_where_asked(count: int, equally_many: bool) -> None:
    lengths = np.random.default_rng(4).integers(5, 90, count)
    ranks = [
        rank_micro_batches(lengths, lambda own: micro_batches(own, 100, 32), rank, 3, equally_many=equally_many)
        for rank in range(3)
    ]
    assert sorted(np.concatenate([part for parts in ranks for part in parts]).tolist()) == list(range(count))
    assert all((lengths[part].max() * len(part)) <= 100 for parts in ranks for part in parts if len(part))
    if equally_many:
        assert len({len(parts) for parts in ranks}) == 1
    else:
        assert all(len(part) for parts in ranks for part in parts)
