"""Scores: what they refuse, and arrays of difficulties as scores."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.difficulty.scores import Scores, as_scores
from curate.errors import InputError

FEATURES, DIFFICULTY, VALID = np.zeros((3, 2), np.float32), np.arange(3, dtype=np.float32), np.ones(3, bool)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": np.zeros(3, np.float32)}, r"features has shape \(3,\)"),
        ({"features": FEATURES[:2]}, "features has 2 rows but difficulty has 3"),
        ({"ids": pa.array(["a", "b"])}, "ids has 2 rows but difficulty has 3"),
        ({"tokens": np.zeros(4, np.int32)}, "tokens has 4 rows but difficulty has 3"),
        ({"difficulty": np.array([1, np.nan, 2], np.float32)}, "difficulty of row 1 is not finite"),
    ],
)
def test_scores_that_do_not_agree_are_refused(changes: dict[str, Any], says: str) -> None:
    parts: dict[str, Any] = {"features": FEATURES, "difficulty": DIFFICULTY, "valid": VALID} | changes
    with pytest.raises(InputError, match=says):
        Scores(**parts)


def test_an_array_is_its_own_feature_and_a_row_without_a_number_is_invalid() -> None:
    scores = as_scores([2, np.nan, -1], 3)
    assert scores.valid.tolist() == [True, False, True]
    assert scores.features.tolist() == [[2], [0], [-1]]
    assert scores.features.dtype == scores.difficulty.dtype == np.float32
    assert scores.final_loss is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros(2), r"shape \(2,\) for 3 examples"),
        (np.zeros((3, 1)), r"shape \(3, 1\)"),
        (["a", "b", "c"], "must be numbers"),
        (Scores(FEATURES[:2], DIFFICULTY[:2], VALID[:2]), "2 rows for 3 examples"),
    ],
)
def test_what_is_not_one_number_per_example_is_refused(value: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_scores(value, 3)


def test_features_of_invalid_rows_are_cleared() -> None:
    features = np.full((3, 2), np.nan, np.float32)
    features[1:] = 7
    valid = np.array([False, True, True])
    assert as_scores(Scores(features, DIFFICULTY, valid), 3).features.tolist() == [[0, 0], [7, 7], [7, 7]]


def test_rows_are_taken_from_every_part() -> None:
    losses, counts, ids = (
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.arange(3, dtype=np.int32),
        pa.array(list("abc")),
    )
    scores = Scores(FEATURES, DIFFICULTY, VALID, losses, np.array([5, 9]), counts, counts, counts, ids)
    taken = scores.take(np.array([2, 0]))
    assert taken.ids.to_pylist() == ["c", "a"]
    assert taken.final_loss is not None
    assert taken.final_loss.tolist() == [5, 1]
    assert taken.difficulty.tolist() == [2, 0]
    for name in ("tokens", "prompt_cut", "completion_cut"):
        assert getattr(taken, name).tolist() == [2, 0]
