"""Shards that workers encode have the bytes of those that this process writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.data.writers import write_parquet_shards
from curate.engine import Ray
from tests.fixtures.mixed_rows import table_of
from tests.fixtures.ray_cluster import Inline


def _written(engine: Any, folder: Path) -> dict[str, bytes]:
    """The bytes of four shards, by name; one of the columns holds views of strings, which Ray alone refuses to send."""
    folder.mkdir()
    index = np.random.default_rng(1).integers(0, 500, 900)
    added = pa.table({"copy": pa.array(np.arange(900), mask=np.arange(900) % 3 == 0)})
    paths = write_parquet_shards([table_of(500)], index, added, folder, rows_per_shard=250, engine=engine)
    return {path.name: path.read_bytes() for path in paths}


def test_shards_are_encoded_in_their_order(tmp_path: Path) -> None:
    engine, here = Inline(), _written(None, tmp_path / "here")
    assert _written(engine, tmp_path / "there") == here
    assert engine.stages == [("write", 4)]
    assert len(here) == 4


@pytest.mark.slow
@pytest.mark.ray
def test_workers_of_a_cluster_encode_the_same_bytes(ray_engine: Ray, tmp_path: Path) -> None:
    assert _written(ray_engine, tmp_path / "there") == _written(None, tmp_path / "here")
