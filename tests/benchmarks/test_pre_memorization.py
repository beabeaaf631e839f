"""The benchmark of pre-memorization accuracy: its data, its R^2, and thresholds that never saw their own run."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pre_memorization import FAMILIES, FULL, HARD, OPENING, RUNS, SAMPLED, WORDS, drawn, worded
from benchmarks.pre_memorization_summary import Curves, FineTuning, best_threshold, explained, held_out, summary
from curate.verify import Verdict, grade


def test_rows_are_of_the_mixture_and_graded_right_behind_their_opening() -> None:
    plain = drawn(96, HARD, "train", 3)
    rows = worded(plain, 3)
    assert len(rows) == 96
    assert set(rows["source"].to_pylist()) == set(FAMILIES)
    assert set(rows["level"].to_pylist()) == {str(level) for level in HARD}
    for before, after in zip(plain.to_pylist(), rows.to_pylist(), strict=True):
        opening, _, rest = after["answer"].partition("\n")
        assert rest == before["answer"]
        assert len(opening.split()) == OPENING
        assert set(opening.split()) <= set(WORDS)
        assert grade(after["answer"], after["final_answer"], strong_only=True) == Verdict.right
    assert len(set(rows["answer"].to_pylist())) > 90
    assert worded(plain, 3).equals(rows)
    assert not worded(plain, 4).equals(rows)


def test_training_and_test_problems_have_no_question_in_common() -> None:
    training, testing = (set(drawn(200, HARD, split, 0)["question"].to_pylist()) for split in ("train", "test"))
    assert not training & testing


def test_every_run_holds_the_rows_that_are_looked_at_and_has_a_name_of_its_own() -> None:
    assert all(SAMPLED <= run.rows <= FULL for run in RUNS)
    assert len({run.name for run in RUNS}) == len(RUNS)


def test_r2_of_points_known() -> None:
    x = np.array([0.1, 0.4, 0.7, 0.9])
    assert explained(x, x) == {"correlation": pytest.approx(1), "identity": pytest.approx(1), "sign": 1}
    shifted = explained(x, x / 2 + 0.2)  # on a line, but not on y = x
    assert shifted["correlation"] == pytest.approx(1)
    assert shifted["identity"] < 1
    assert explained(1 - x, x)["sign"] == -1
    assert explained(np.full(4, x.mean()), x)["identity"] == pytest.approx(0)
    assert explained(np.full(4, 0.3), x)["correlation"] == 0
    y = np.random.default_rng(0).random(50)
    noisy = y + np.random.default_rng(1).normal(0, 0.1, 50)
    line = np.polyval(np.polyfit(noisy, y, 1), noisy)
    assert explained(noisy, y)["correlation"] == pytest.approx(
        1 - ((y - line) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    )


def _curves(name: str, p: float, seed: int) -> Curves:
    """A run whose test accuracy is exactly its pre-memorization accuracy at the threshold p."""
    rng = np.random.default_rng(seed)
    accuracy, nll = np.sort(rng.random((4, 30)), axis=0), -np.sort(-rng.gamma(1, 0.2, (4, 30)), axis=0)
    bare = Curves(FineTuning(name, 30, 4, 1e-3), accuracy, nll, np.zeros(4))
    return Curves(bare.run, accuracy, nll, bare.solved(p))


def test_the_threshold_that_made_the_points_is_found() -> None:
    runs = [_curves("a", -2.0, 0), _curves("b", -2.0, 1)]
    assert best_threshold(runs, (-3.0, -2.0, -1.0)) == -2.0
    found = summary(runs)
    assert found["r2"]["PreMem, p of the other runs"]["identity"] == pytest.approx(1, abs=1e-3)
    assert found["r2"]["train accuracy"]["identity"] < 0.9
    assert found["points"] == len(found["all_points"]) == 8


def test_a_run_has_no_part_in_its_own_threshold() -> None:
    runs = [_curves("a", -3.0, 0), _curves("b", -1.0, 1)]
    assert held_out(runs, (-3.0, -2.0, -1.0)) == [-1.0, -3.0]
