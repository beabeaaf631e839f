"""Rows are joined by id, results by their inputs: what must not be mixed up is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import curate
from augmenters import Duplicate
from curate.clusterers import KMeans
from curate.curated import inputs_fingerprint
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.storage.folders import check_directory


class Known:
    """Difficulty from the data itself."""

    def score(self, examples, run):
        return np.array(examples.table.column("known"), float)


def _table(n: int = 30) -> pa.Table:
    return pa.table(
        {
            "id": [f"r{i}" for i in range(n)],
            "prompt": [f"p{i}" for i in range(n)],
            "completion": [f"c{i}" for i in range(n)],
            "known": [float(i % 3 == 0) * 5 + i / 100 for i in range(n)],
        }
    )


def _pipeline(**changes: object) -> Pipeline:
    return Pipeline(**{"scorer": Known(), "clusterer": KMeans(), "augmenters": [Duplicate()], **changes})


def test_a_plan_is_not_applied_to_the_same_rows_in_another_order(tmp_path: Path) -> None:
    table = _table()
    whole = _pipeline().run(table, cache=tmp_path)
    curate.rebuild(read(table), whole.split, whole.plan)
    with pytest.raises(InputError, match="row 0 of the data is r29 but r0 in the split"):
        curate.rebuild(read(table.take(np.arange(30)[::-1])), whole.split, whole.plan)
    with pytest.raises(InputError, match="29 rows of data, 30 of the split"):
        curate.rebuild(read(table.slice(1)), whole.split, whole.plan)


def test_a_finished_folder_without_its_data_is_not_believed(tmp_path: Path) -> None:
    loaded = read(_table())
    _pipeline().run(loaded, out=tmp_path / "out", cache=tmp_path / "cache")
    inputs = inputs_fingerprint(_pipeline(), loaded, None)
    assert check_directory(tmp_path / "out", inputs)
    for file in (tmp_path / "out" / "data").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"data/.* cannot be read .*; pass --fresh"):
        check_directory(tmp_path / "out", inputs)
