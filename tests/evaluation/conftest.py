from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.evaluation import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def trained_on(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"question": ["Who is there, said the miller?"], "answer": ["me"]}), path)
    return path
