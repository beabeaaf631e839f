"""Arrow files in both formats."""

from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest

from curate.data.sources import read_files
from curate.errors import InputError
from tests.fixtures.tables import TABLE, write


def test_files_streams_and_feather_hold_the_same_rows(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.arrow"), write(tmp_path / "b.ipc"), tmp_path / "c.feather"]
    pyarrow.feather.write_feather(TABLE, paths[2])
    table, notes = read_files(paths, [])
    assert table.equals(pa.concat_tables([TABLE] * 3))
    assert notes == []


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.arrow is not a readable Arrow file .*; fetch or write it again"):
        read_files([path], [])
