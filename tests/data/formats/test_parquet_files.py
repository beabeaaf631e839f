"""Parquet files, at once and in pieces."""

from pathlib import Path

import pyarrow as pa
import pytest

from curate.data.formats import PARQUET, parquet_files
from curate.data.sources import read_files
from tests.fixtures.tables import TABLE, write


@pytest.mark.parametrize("piece", [1, 64 << 20])
def test_pieces_are_the_rows_in_order(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_PIECE", piece)
    table, notes = read_files([write(tmp_path / "a.parquet"), write(tmp_path / "b.pq.parquet")], [])
    assert table.equals(pa.concat_tables([TABLE] * 2))
    assert notes == []


def test_names_of_columns_are_read_without_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    assert PARQUET.column_names is not None
    assert PARQUET.column_names(path) == TABLE.column_names
