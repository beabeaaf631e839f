import pytest

import curate.data.parquet_shards
import curate.data.row_store


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.data.row_store, "_SLICE_ROWS", 7)
    monkeypatch.setattr(curate.data.parquet_shards, "GROUP_ROWS", 10)
