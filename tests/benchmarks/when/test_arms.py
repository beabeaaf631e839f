"""Arms: which rows are copied, and how often."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.when.arms import counts_of, evened, phases_of
from benchmarks.when.settings import ARMS
from curate import Split

N = 40
HARD = np.arange(N) < 8
REDUCIBLE = np.arange(N) % 2 == 0


def _split() -> Split:
    difficulty = HARD.astype(np.float32)
    ids = pa.array([f"r{i}" for i in range(N)])
    return Split(ids, HARD.astype(np.int32), HARD, difficulty, np.ones(N, bool), difficulty)


def _rows() -> pa.Table:
    return pa.table({"rare": np.arange(N) < 10, "source": ["a"] * 30 + ["b"] * 10})


@pytest.mark.parametrize("name", [name for name, arm in ARMS.items() if arm.of in ("hard", "random", "easy")])
def test_controls_have_as_many_copies_as_the_hard_arm(name: str) -> None:
    arm = ARMS[name]
    counts = counts_of(arm, _rows(), _split(), REDUCIBLE, 0)
    copied = 4 if arm.reducible else 8
    assert np.maximum(counts - 1, 0).sum() == (arm.factor - 1) * copied
    chosen = counts > 1
    if arm.of == "hard":
        assert np.array_equal(chosen, HARD & REDUCIBLE if arm.reducible else HARD)
    if arm.of == "easy":
        assert not (chosen & HARD).any()
    if arm.reducible:
        assert not (chosen & ~REDUCIBLE).any()
    assert np.array_equal(counts == 0, HARD & ~REDUCIBLE if arm.drop else np.zeros(N, bool))


def test_late_rows_are_those_of_the_rare_part() -> None:
    counts = counts_of(ARMS["late x3"], _rows(), _split(), None, 0)
    assert counts.tolist() == [3] * 10 + [1] * 30


def test_an_arm_of_reducible_rows_needs_to_know_them() -> None:
    with pytest.raises(ValueError, match="reducible"):
        counts_of(ARMS["hard reducible x3"], _rows(), _split(), None, 0)


@pytest.mark.parametrize(("copies", "sizes"), [(16, [30, 26]), (20, [30, 30]), (23, [31, 32]), (0, [30, 10])], ids=str)
def test_copies_even_the_sources_out(copies: int, sizes: list[int]) -> None:
    sources = ["a"] * 30 + ["b"] * 10
    counts = 1 + evened(sources, copies, 0)
    assert counts.sum() == 40 + copies
    found = [counts[:30].sum(), counts[30:].sum()]
    assert sorted(found) == sorted(sizes)
    assert counts[30:].max() - counts[30:].min() <= 1


def test_copies_in_front_end_at_half_of_the_steps() -> None:
    counts = counts_of(ARMS["hard x3 front"], _rows(), _split(), None, 0)
    first, second = phases_of(ARMS["hard x3 front"], counts, 10)
    assert (first.until, second.until) == (5, 10)
    assert first.counts.max() == 3
    assert second.counts.max() == 1
    assert len(phases_of(ARMS["hard x3"], counts, 10)) == 1
