"""Rows put in order by way of the disk are those that memory gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data import row_runs, row_store
from curate.data.writers import write_parquet_shards
from curate.errors import InputError


def rows_of_every_kind(n: int) -> pa.Table:
    numbers = range(n)
    return pa.table(
        {
            "text": [None if k % 11 == 0 else f"text {k} é" * (k % 7) for k in numbers],
            "view": pa.array([f"view {k}" for k in numbers], pa.string_view()),
            "level": pa.array([None if k % 5 == 0 else k for k in numbers], pa.int16()),
            "kind": pa.array([f"kind{k % 3}" for k in numbers]).dictionary_encode(),
            "json": pa.array([f'{{"a": {k}}}' for k in numbers], pa.json_()),
            "turns": [[{"role": "user", "content": f"{k}"}] * (k % 4) for k in numbers],
            "nothing": pa.nulls(n),
        }
    )


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


@pytest.mark.parametrize("order", ["random", "ascending", "few"])
def test_the_bytes_are_the_same_however_many_rows_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(row_store, "_SLICE_ROWS", 64)
    table, new = rows_of_every_kind(900), rows_of_every_kind(30).select(["level", "text", "turns"])
    index = np.random.default_rng(0).integers(0, 930, 7 if order == "few" else 1_500)
    index = np.sort(index) if order == "ascending" else index
    extra = pa.table({"copy": np.arange(len(index))})
    pieces = pa.concat_tables([table.slice(low, 101) for low in range(0, 900, 101)])

    def written(name: str, rows: pa.Table, in_memory: int, run_bytes: int) -> str:
        monkeypatch.setattr(row_runs, "IN_MEMORY", in_memory)
        monkeypatch.setattr(row_runs, "_RUN_BYTES", run_bytes)
        folder = tmp_path / name
        folder.mkdir()
        write_parquet_shards([rows, new], index, extra, folder, rows_per_shard=640)
        return digest(folder)

    wanted = written("memory", table, 1 << 30, 1 << 30)
    assert {written(f"{size}", pieces, 0, size) for size in (1, 20_000, 1 << 30)} == {wanted}
    found = pa.concat_tables([pq.ParquetFile(path).read() for path in sorted((tmp_path / "1").iterdir())])
    texts = [*table["text"].to_pylist(), *new["text"].to_pylist()]
    assert found["text"].to_pylist() == [texts[row] for row in index]


def test_runs_are_removed_and_positions_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "_SLICE_ROWS", 8)
    monkeypatch.setattr(row_runs, "IN_MEMORY", 0)
    table = rows_of_every_kind(50)
    index = np.arange(50)[::-1].copy()
    index[3] = 50
    with pytest.raises(InputError, match=r"row positions must lie in 0\.\.49, got 0\.\.50"):
        write_parquet_shards([table], index, pa.table({"copy": index}), tmp_path)
    index[3] = 3
    write_parquet_shards([table], index, pa.table({"copy": index}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001.parquet"]
    store = row_store.row_store([table])
    (tmp_path / "runs").mkdir()
    parts = row_runs.in_order(store, index, tmp_path / "runs")
    next(parts)
    assert len(list((tmp_path / "runs").iterdir())) == 1  # it went by way of the disk
