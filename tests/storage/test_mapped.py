"""Mapped files: the content, whatever becomes of the file, and memory that is given back."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.storage.mapped import mapped, release, write_stream


def test_content_outlives_the_file_and_its_release(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1_000)
    with path.open("rb") as file:
        content = mapped(file)
    path.unlink()
    release()
    assert content.to_pybytes() == b"content" * 1_000


def test_an_empty_file_has_no_content(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        assert mapped(file).size == 0


def test_tables_of_several_pieces_come_back(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None, "c"], "kind": pa.array(["x", "y", "x"]).dictionary_encode()})
    other = pa.table({"text": ["d"], "kind": pa.array(["z"]).dictionary_encode()})
    back = write_stream([table, other], table.schema, tmp_path / "rows.arrow")
    assert back.to_pylist() == [*table.to_pylist(), *other.to_pylist()]
    assert back.schema.equals(table.schema)
    assert write_stream([], table.schema, tmp_path / "none.arrow").num_rows == 0


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_what_was_read_is_not_kept(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    rows = write_stream([pa.table({"x": np.arange(8_000_000)})], pa.schema([("x", pa.int64())]), tmp_path / "x")
    before = resident()
    assert rows["x"].to_numpy().sum() == 8_000_000 * 7_999_999 // 2
    held = resident() - before
    release()
    assert held > 32e6
    assert resident() - before < held / 2
