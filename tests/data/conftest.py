import pytest

import curate.data.row_store
import curate.data.writers


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.data.row_store, "_SLICE_ROWS", 7)
    monkeypatch.setattr(curate.data.writers, "GROUP_ROWS", 10)
