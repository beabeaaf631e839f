"""Batches hold the rows asked for, padded or packed, within a budget of tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.errors import InputError
from curate.models.batches import make_batch, pack_batch, plan_batches, plan_packs, shared_prefix
from tests.fixtures.models import random_tokens, with_prefix

TOKENS = random_tokens([(5, 7), (3, 30), (10, 1), (20, 40), (4, 4), (1, 2)], invalid=[4])


def test_batches_hold_the_rows_asked_for() -> None:
    rows = [3, 0, 3]
    padded, packed = make_batch(TOKENS, rows), pack_batch(TOKENS, rows)
    assert padded.rows.tolist() == packed.rows.tolist() == rows
    assert padded.input_ids.shape == (3, 60)
    assert packed.cu_seqlens is not None
    assert packed.cu_seqlens.tolist() == [0, 60, 72, 132]
    for place, row in enumerate(rows):
        low, high = TOKENS.offsets[row : row + 2]
        ids, supervised = TOKENS.ids[low:high], TOKENS.supervised[low:high]
        labels = np.where(supervised, ids, -100)
        for found_ids, found_labels in (
            (padded.input_ids[place, : high - low], padded.labels[place, : high - low]),
            (packed.input_ids[0, packed.cu_seqlens[place] :], packed.labels[0, packed.cu_seqlens[place] :]),
        ):
            assert found_ids[: high - low].tolist() == ids.tolist()
            assert found_labels[: high - low].tolist() == labels.tolist()
    assert (padded.labels[1, 12:] == -100).all()
    with pytest.raises(InputError, match="pad_to is 59"):
        make_batch(TOKENS, rows, 59)


def test_a_shared_prefix_stops_before_the_first_prediction() -> None:
    tokens = with_prefix(20)
    assert shared_prefix(tokens, np.arange(4)) == 20
    assert shared_prefix(tokens, np.array([1, 1])) == 20  # 21 prompt tokens; the last predicts the completion
    assert shared_prefix(tokens, np.array([2, 2])) == 39
    assert shared_prefix(tokens, np.array([2, 0])) == 20
    assert shared_prefix(with_prefix(7), np.arange(4)) == 0  # too few to matter
    everything = replace(tokens, supervised=np.arange(len(tokens.ids))[:, None].ravel() >= 0)
    assert shared_prefix(everything, np.arange(4)) == 0
    nothing = replace(tokens, supervised=np.zeros(len(tokens.ids), bool))
    assert shared_prefix(nothing, np.array([3, 3])) == 30


def test_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 80, 200)
    for budget in (1, 64, 300, 10**6):
        padded = list(plan_batches(lengths, budget))
        packed = list(plan_packs(lengths, budget))
        for batches in (padded, packed):
            assert sorted(np.concatenate(batches)) == list(range(200))
        assert all(len(rows) == 1 or len(rows) * lengths[rows].max() <= budget for rows in padded)
        assert all(len(rows) == 1 or lengths[rows].sum() <= budget for rows in packed)
    assert [len(rows) for rows in plan_packs(np.full(5, 20), 50, prefix=10)] == [4, 1]
    assert list(plan_packs(np.zeros(0, np.int64), 50)) == []
