"""The order of the rows: a uniform shuffle, of which every part can be known without the others."""

import numpy as np
import pytest

from curate.errors import InputError
from curate.mixture.order import check_counts, half, in_epochs, in_front, in_turn, row_keys, shuffled

HARD = np.arange(20_000) % 10 < 3
COUNTS = np.where(HARD, 3, 1).astype(np.int32)


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and numbers of copies in turn, and their order."""
    positions, copies = in_turn(COUNTS, 500)
    return positions, copies, shuffled(positions, copies, seed)


def test_rows_in_turn_are_the_input_with_copies_behind_their_row() -> None:
    positions, copies = in_turn(np.array([1, 0, 3, 2], np.int32), 2)
    assert positions.tolist() == [0, 2, 2, 2, 3, 3, 4, 5]
    assert copies.tolist() == [0, 0, 1, 2, 0, 1, 0, 0]
    assert in_turn(np.zeros(0, np.int32), 0)[0].tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_copies_lie_as_far_apart_as_under_a_uniform_shuffle(seed: int) -> None:
    positions, copies, order = rows(seed)
    m = len(order)
    place = np.empty(m, np.int64)
    place[order] = np.arange(m)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        hard = np.flatnonzero(COUNTS == 3)
        gaps = np.abs(
            place[(copies == first) & np.isin(positions, hard)] - place[(copies == second) & np.isin(positions, hard)]
        )
        # P(gap <= g) of two of m places drawn without replacement.
        sorted_gaps = np.sort(gaps)
        expected = sorted_gaps * (2 * m - sorted_gaps - 1) / (m * (m - 1))
        found = np.arange(1, len(gaps) + 1) / len(gaps)
        assert np.abs(found - expected).max() < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_every_slice_has_its_share_of_hard_rows(seed: int) -> None:
    positions, _, order = rows(seed)
    hard = np.append(HARD, np.zeros(500, bool))[positions[order]]
    share = hard.mean()
    for part in np.array_split(hard, 100):
        assert abs(part.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(part))


def test_a_part_is_known_without_the_others_and_the_order_does_not_depend_on_how_rows_are_counted() -> None:
    positions, copies, order = rows()
    keys = row_keys(positions, copies, 0)
    assert len(np.unique(keys)) == len(keys)
    apart = [row_keys(positions[part], copies[part], 0) for part in np.array_split(np.arange(len(order)), 7)]
    assert np.array_equal(np.concatenate(apart), keys)
    below = np.flatnonzero(keys < 1 << 62)  # what a quarter of the output holds
    assert np.array_equal(below[np.argsort(keys[below])], order[: len(below)])
    # Rows that stay keep their order when others are no longer shown.
    fewer, numbers = in_turn(np.where(HARD, 2, 0).astype(np.int32), 0)
    kept = HARD[np.minimum(positions, 19_999)] & (copies < 2) & (positions < 20_000)
    before = [(positions[k], copies[k]) for k in order if kept[k]]
    assert before == [(fewer[k], numbers[k]) for k in shuffled(fewer, numbers, 0)]


def test_in_front_each_part_is_shuffled_and_the_second_is_a_sample_of_the_rows() -> None:
    positions, copies, _ = rows()
    order = in_front(positions, copies, 0)
    assert sorted(order.tolist()) == list(range(len(order)))
    themselves = int((copies == 0).sum())
    second = order[len(order) - (themselves - half(themselves)) :]
    assert not copies[second].any()
    share = HARD[positions[second][positions[second] < 20_000]].mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.21 / len(second))
    for part in (order[: len(order) - len(second)], second):
        keys = row_keys(positions[part], copies[part], 0)
        assert (keys[1:] > keys[:-1]).all()


def test_epochs_have_every_row_once_at_most() -> None:
    positions, copies = in_turn(COUNTS, 0)
    order = in_epochs(positions, copies, 0, 4, len(COUNTS))
    epochs = np.array_split(positions[order], 4)
    assert all(len(np.unique(epoch)) == len(epoch) for epoch in epochs)
    assert len({tuple(epoch[:5]) for epoch in epochs}) == 4


def test_more_copies_than_keys_tell_apart_are_refused() -> None:
    check_counts(np.array([1, (1 << 24) - 1], np.int32))
    with pytest.raises(InputError, match="row 1 is planned 16,777,216 times; the limit is 16,777,215"):
        check_counts(np.array([1, 1 << 24], np.int32))
