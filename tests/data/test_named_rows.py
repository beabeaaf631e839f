"""Rows that a file of ids names are kept or left out, and every one that is gone is on record."""

from pathlib import Path

import pyarrow as pa
import pytest

from curate.data.named_rows import named_rows
from curate.data.readers import Loaded, read
from curate.errors import InputError


@pytest.fixture
def loaded() -> Loaded:
    ids = [f"r{k}" for k in range(6)]
    return read(pa.table({"id": ids, "prompt": ids, "completion": ids}))


def _file(folder: Path, *ids: str) -> Path:
    path = folder / "ids.txt"
    path.write_text("\n".join(ids) + "\n")
    return path


def test_named_rows_are_left_out_with_their_place_in_the_input(loaded: Loaded, tmp_path: Path) -> None:
    found = named_rows(loaded, exclude=_file(tmp_path, "r1", "r4#2", "", "nobody"))  # a copy names its row
    assert found.examples.ids.to_pylist() == ["r0", "r2", "r3", "r5"]
    assert found.rows.tolist() == [0, 2, 3, 5]
    assert [(each["row"], each["example_id"], each["reason"]) for each in found.rejected] == [
        (1, "r1", "in ids.txt"),
        (4, "r4", "in ids.txt"),
    ]
    assert "2 rows named, 1 ids unknown" in found.notes[-1]


def test_or_are_the_only_ones(loaded: Loaded, tmp_path: Path) -> None:
    found = named_rows(loaded, include=_file(tmp_path, "r5", "r0"))
    assert found.examples.ids.to_pylist() == ["r0", "r5"]  # in the order of the input
    assert len(found.rejected) == 4
    assert named_rows(loaded).examples is loaded.examples


def test_files_that_name_nothing_are_refused(loaded: Loaded, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"names none of the 6 rows; .* such as r0"):
        named_rows(loaded, include=_file(tmp_path, "x"))
    with pytest.raises(InputError, match="no row is left"):
        named_rows(loaded, exclude=_file(tmp_path, *[f"r{k}" for k in range(6)]))
    with pytest.raises(InputError, match="one example id per line"):
        named_rows(loaded, exclude=tmp_path / "absent")
