"""Rows by position: in any order, with repeats, and past what 32-bit offsets reach."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data import row_store as module
from curate.data.row_store import in_order, row_store
from curate.data.writers import write_parquet_shards
from curate.errors import InputError
from tests.fixtures.mixed_rows import plain, table_of


@pytest.mark.parametrize("seed", range(4))
def test_take_equals_indexing_whatever_the_chunks(seed: int, small_slices: None) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(60)
    cuts = np.sort(rng.choice(60, 5))
    parts = [table.slice(low, high - low) for low, high in zip([0, *cuts], [*cuts, 60], strict=True)]
    index = rng.integers(0, 90, rng.integers(0, 200))
    taken = row_store([pa.concat_tables(parts), table_of(30, 60)]).take(index)
    assert taken.schema.equals(table.schema)
    assert taken.to_pylist() == plain(table_of(90), index)


def test_no_rows_have_the_types_too() -> None:
    table = pa.table({"x": pa.array(["1"], pa.json_()), "y": ["1"]})
    assert row_store([table]).take(np.zeros(0, np.int64)).equals(table.slice(0, 0))


@pytest.mark.parametrize("position", [-1, 5])
def test_positions_outside_are_an_error(position: int) -> None:
    with pytest.raises(InputError, match=r"must lie in 0\.\.4"):
        row_store([table_of(5)]).take(np.array([0, position]))


@pytest.mark.long
def test_more_string_bytes_than_32_bit_offsets_reach() -> None:
    cell = 1 << 20
    data = pa.py_buffer(b"x" * (1200 * cell))
    ends = pa.array(np.arange(1201, dtype=np.int32) * cell).buffers()[1]
    chunk = pa.Array.from_buffers(pa.string(), 1200, [None, ends, data])
    table = pa.table({"text": pa.chunked_array([chunk, chunk])})
    lengths = [
        len(text) for part in row_store([table]).slices(np.arange(2399, -1, -1)) for text in part["text"].to_pylist()
    ]
    assert lengths == [cell] * 2400


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
    monkeypatch.setattr(module, "_SLICE_ROWS", 64)
    table, new = rows_of_every_kind(900), rows_of_every_kind(30).select(["level", "text", "turns"])
    index = np.random.default_rng(0).integers(0, 930, 7 if order == "few" else 1_500)
    index = np.sort(index) if order == "ascending" else index
    extra = pa.table({"copy": np.arange(len(index))})
    pieces = pa.concat_tables([table.slice(low, 101) for low in range(0, 900, 101)])

    def written(name: str, rows: pa.Table, in_memory: int, run_bytes: int) -> str:
        monkeypatch.setattr(module, "IN_MEMORY", in_memory)
        monkeypatch.setattr(module, "_RUN_BYTES", run_bytes)
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
    monkeypatch.setattr(module, "_SLICE_ROWS", 8)
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    table = rows_of_every_kind(50)
    index = np.arange(50)[::-1].copy()
    index[3] = 50
    with pytest.raises(InputError, match=r"row positions must lie in 0\.\.49, got 0\.\.50"):
        write_parquet_shards([table], index, pa.table({"copy": index}), tmp_path)
    index[3] = 3
    write_parquet_shards([table], index, pa.table({"copy": index}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00001.parquet"]
    store = row_store([table])
    (tmp_path / "runs").mkdir()
    parts = in_order(store, index, tmp_path / "runs")
    next(parts)
    assert len(list((tmp_path / "runs").iterdir())) == 1  # it went by way of the disk
