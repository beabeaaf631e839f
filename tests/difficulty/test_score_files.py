"""Scores as Parquet files: written and read back, and files that are not scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.difficulty.score_files import check_scores_file, read_scores, write_scores
from curate.difficulty.scores import COUNTS, Scores
from curate.errors import InputError

IDS = ["a", "b", "c"]


def scores_of(losses: bool) -> Scores:
    trajectory = np.array([[3, 2], [np.nan, np.nan], [4, 1]], np.float32)
    counts = np.array([5, 0, 7], np.int32)
    return Scores(
        features=np.array([[1, 2, 3], [0, 0, 0], [4, 5, 6]], np.float32),
        difficulty=np.array([2, np.nan, 5], np.float32),
        valid=np.array([True, False, True]),
        trajectory=trajectory if losses else None,
        steps=np.array([10, 200]) if losses else None,
        **dict.fromkeys(COUNTS, counts) if losses else {},
    )


@pytest.mark.parametrize("losses", [True, False])
def test_scores_come_back_as_they_were_written(losses: bool, tmp_path: Path) -> None:
    scores = scores_of(losses)
    write_scores(scores, pa.array(IDS), tmp_path / "scores.parquet")
    read = read_scores(tmp_path / "scores.parquet")
    assert read.ids.to_pylist() == IDS
    for name in ("features", "difficulty", "valid", "trajectory", "steps", *COUNTS):
        written, back = getattr(scores, name), getattr(read, name)
        assert (written is None) == (back is None)
        if written is not None:
            np.testing.assert_array_equal(back, written)


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({"example_id": IDS, "difficulty": [1.0, 2.0, None]} | columns), path)
    return path


def test_the_features_of_a_file_without_any_are_losses_in_the_order_of_steps_or_difficulties(tmp_path: Path) -> None:
    read = read_scores(write(tmp_path / "a.parquet", loss_100=[1.0, 2.0, 3.0], loss_20=[4.0, 5.0, 6.0]))
    assert read.steps is not None
    assert read.steps.tolist() == [20, 100]
    assert read.features.tolist() == [[4, 1], [5, 2], [0, 0]]
    assert read_scores(write(tmp_path / "b.parquet")).features.tolist() == [[1], [2], [0]]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"difficulty": ["x", "y", "z"]}, "column 'difficulty' is .*, not a number"),
        ({"valid": ["x", "y", "z"]}, "column 'valid' holds .*, not true and false"),
        ({"tokens": [1.0, 2.0, 3.0]}, "column 'tokens' must hold whole numbers"),
        ({"tokens": [1, -2, 3]}, "row 1: column 'tokens' holds -2"),
        ({"feature_0": [1.0, None, 2.0]}, "row 1 is valid but has a feature that is not finite"),
        ({"example_id": [[1], [2], [3]]}, "column 'example_id' holds .*, not ids"),
    ],
)
def test_a_file_that_is_not_scores_is_refused_with_the_column(columns: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_scores(write(tmp_path / "scores.parquet", **columns))


def test_scores_replace_scores_and_nothing_else(tmp_path: Path) -> None:
    scores, other = write(tmp_path / "scores.parquet"), tmp_path / "rows.parquet"
    check_scores_file(scores)
    check_scores_file(tmp_path / "new.parquet")
    pq.write_table(pa.table({"prompt": ["p"]}), other)
    for path, says in ((other, "something other than scores"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=says):
            check_scores_file(path)
    with pytest.raises(InputError, match="has no column 'example_id'"):
        read_scores(other)
