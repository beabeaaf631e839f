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


def _written(engine: Any, folder: Path, *, views: bool = False) -> dict[str, bytes]:
    folder.mkdir()
    table = table_of(500)
    if not views:
        table = table.drop_columns([field.name for field in table.schema if "view" in str(field.type)])
    index = np.random.default_rng(1).integers(0, 500, 900)
    added = pa.table({"copy": pa.array(np.arange(900), mask=np.arange(900) % 3 == 0)})
    paths = write_parquet_shards([table], index, added, folder, rows_per_shard=250, engine=engine)
    return {path.name: path.read_bytes() for path in paths}


def test_shards_are_encoded_in_their_order(tmp_path: Path) -> None:
    engine, here = Inline(), _written(None, tmp_path / "here")
    assert _written(engine, tmp_path / "there") == here
    assert engine.stages == [("write", 4)]
    assert len(here) == 4


def test_views_of_strings_which_ray_cannot_send_are_encoded_here(tmp_path: Path) -> None:
    engine = Inline()
    assert _written(engine, tmp_path / "there", views=True) == _written(None, tmp_path / "here", views=True)
    assert engine.stages == []


@pytest.mark.slow
@pytest.mark.ray
def test_workers_of_a_cluster_encode_the_same_bytes(ray_engine: Ray, tmp_path: Path) -> None:
    assert _written(ray_engine, tmp_path / "there") == _written(None, tmp_path / "here")
