"""Halves: alike in source and length, tied rows together, the same for any order, null rows trained on by nobody."""

from __future__ import annotations

import numpy as np
import pytest

from curate.difficulty.halves import length_strata, make_halves, tied_groups
from curate.errors import InputError

N = 600


def _rows(n: int = N) -> tuple[list[str], np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng(0)
    sources = rng.choice(["a", "b", "c"], n, p=[0.7, 0.25, 0.05]).tolist()
    lengths = rng.integers(1, 200, n)
    return [f"id{k}" for k in range(n)], lengths, [f"answer {k % 250}" for k in range(n)], sources


def test_halves_agree_in_sources_and_lengths() -> None:
    ids, lengths, completions, sources = _rows()
    halves = make_halves(ids, lengths, completions, sources=sources)
    for stratum in np.unique(length_strata(lengths, sources)):
        rows = np.flatnonzero(length_strata(lengths, sources) == stratum)
        assert abs((halves.half[rows] == 0).sum() - (halves.half[rows] == 1).sum()) <= 1
    assert abs(int(halves.half.sum()) - N // 2) <= 2
    assert abs(lengths[halves.half == 0].mean() - lengths[halves.half == 1].mean()) < 5


def test_the_order_of_the_rows_decides_nothing() -> None:
    ids, lengths, completions, sources = _rows()
    groups = np.arange(N) // 3
    halves = make_halves(ids, lengths, completions, sources=sources, groups=groups)
    order = np.random.default_rng(1).permutation(N)

    def moved(values: list[str]) -> list[str]:
        return [values[k] for k in order]

    again = make_halves(moved(ids), lengths[order], moved(completions), sources=moved(sources), groups=groups[order])
    np.testing.assert_array_equal(again.half, halves.half[order])
    np.testing.assert_array_equal(again.withdrawn, halves.withdrawn[order])
    pairs = {ids[a]: ids[b] for a, b in zip(halves.null, halves.donor, strict=True)}
    assert {ids[order[a]]: ids[order[b]] for a, b in zip(again.null, again.donor, strict=True)} == pairs


def test_tied_rows_are_in_one_half_and_withdrawn_together() -> None:
    ids, lengths, completions, sources = _rows()
    groups = np.arange(N) // 4
    halves = make_halves(ids, lengths, completions, sources=sources, groups=groups)
    for values in (halves.half, halves.withdrawn):
        assert (values.reshape(-1, 4) == values.reshape(-1, 4)[:, :1]).all()
    assert 0.4 < halves.half.mean() < 0.6
    assert halves.withdrawn.mean() <= 0.2


def test_null_rows_have_another_completion_of_like_length_and_are_trained_on_by_nobody() -> None:
    ids, lengths, completions, sources = _rows()
    halves = make_halves(ids, lengths, completions, sources=sources)
    assert 75 <= len(halves.null) <= 90  # 15 %; a stratum with a single one has no donor
    strata = length_strata(lengths, sources)
    for row, donor in zip(halves.null, halves.donor, strict=True):
        assert completions[row] != completions[donor]
        assert sources[row] == sources[donor]
        assert halves.withdrawn[row]
        assert halves.withdrawn[donor]
    assert (strata[halves.null] == strata[halves.donor]).mean() > 0.9
    trained = np.concatenate([halves.trained_on(0), halves.trained_on(1)])
    assert not np.isin(trained, np.concatenate([halves.null, halves.donor])).any()
    assert len(trained) + halves.withdrawn.sum() == N


def test_every_row_is_measured_once_by_the_half_that_never_saw_it() -> None:
    ids, lengths, completions, sources = _rows()
    halves = make_halves(ids, lengths, completions, sources=sources)
    rows = [halves.measured_by(half)[0] for half in (0, 1)]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(N))
    for half in (0, 1):
        assert not np.isin(halves.trained_on(half), rows[half]).any()
    assert sum(len(halves.measured_by(half)[1]) for half in (0, 1)) == len(halves.null)


def test_few_completions_leave_few_null_rows() -> None:
    ids, lengths, _, sources = _rows()
    same = make_halves(ids, lengths, ["yes"] * N, sources=sources)
    assert len(same.null) == 0
    assert not same.withdrawn.any()
    two = make_halves(ids, lengths, ["yes" if k % 2 else "no" for k in range(N)], sources=sources)
    assert len(two.null) > 40
    assert len(make_halves(ids, lengths, ids, sources=sources, null_rows=20).null) <= 20


def test_repeated_ids_and_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="ids different"):
        make_halves(["a", "a"], [1, 1], ["x", "y"])
    with pytest.raises(InputError, match="2 ids, 1 lengths"):
        make_halves(["a", "b"], [1], ["x", "y"])


def test_groups_are_what_is_connected() -> None:
    groups, patterns = tied_groups(60, [["x", "y", "x", *map(str, range(57))]], ([3, 4], [4, 5]))
    assert patterns == 0
    assert groups[0] == groups[2]
    assert groups[3] == groups[4] == groups[5]
    assert len(np.unique(groups)) == 57


def test_a_template_that_many_rows_follow_ties_none_of_them() -> None:
    chain = np.arange(39)
    same = ["t0", "t0", *(f"t{k}" for k in range(2, 60))]
    groups, patterns = tied_groups(60, [same], (np.append(chain, 50), np.append(chain + 1, 51)))
    assert patterns == 40
    assert groups[0] == groups[1]
    assert len(np.unique(groups[:40])) == 39
    assert groups[50] == groups[51]
