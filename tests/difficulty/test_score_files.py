"""Scores as Parquet files: written and read back, and files that are not scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.difficulty.reducible import Gains
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


GAINS = Gains(
    np.array([0.1, np.nan, 1 / 3]),
    np.array([0.25, -1 / 7]),
    np.array([2.5, np.nan, 3.25]),
    np.array([4.0, 1 / 9]),
    (8, 6),
    (4, 2),
)


def test_gains_come_back_to_the_bit_with_their_null_rows(tmp_path: Path) -> None:
    write_scores(replace(scores_of(True), gains=GAINS), pa.array(IDS), tmp_path / "scores.parquet")
    back = read_scores(tmp_path / "scores.parquet")
    assert back.gains is not None
    assert (back.gains.best, back.gains.since) == (GAINS.best, GAINS.since)
    for name in ("rows", "null", "short", "null_short"):
        np.testing.assert_array_equal(getattr(back.gains, name), getattr(GAINS, name))
    taken = back.take(np.array([2, 0]))
    assert taken.gains is not None
    assert taken.gains.rows.tolist() == [1 / 3, 0.1]
    assert len(taken.gains.null) == 2


def test_a_column_of_reducible_rows_is_taken_as_it_is(tmp_path: Path) -> None:
    read = read_scores(write(tmp_path / "scores.parquet", reducible=[True, None, False], gain=[1.0, 2.0, 3.0]))
    assert read.gains is None
    assert read.reducible is not None
    assert read.reducible.tolist() == [True, False, False]
    write_scores(read, pa.array(IDS), tmp_path / "again.parquet")
    np.testing.assert_array_equal(read_scores(tmp_path / "again.parquet").reducible, read.reducible)


@pytest.mark.parametrize(
    "damage", [None, "{", '{"gain": [1], "held_out_loss": [[1]], "best": [1, 1], "since": [0, 0]}']
)
def test_gains_without_their_null_rows_are_refused(damage: str | None, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    write_scores(replace(scores_of(True), gains=GAINS), pa.array(IDS), path)
    metadata = {} if damage is None else {"curate.null_rows": damage}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(InputError, match=r"lacks the null rows .* add a column reducible"):
        read_scores(path)
    with pytest.raises(InputError, match=r"'reducible' holds .*, not true and false"):
        read_scores(write(tmp_path / "other.parquet", reducible=["yes", "no", "no"]))
