"""Two runs side by side: rows are joined by id, and every number is that of a count by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import InputError
from curate.report.run_difference import run_difference
from curate.storage.records import record_text


@pytest.fixture
def other(finished_run: Path, tmp_path: Path) -> Path:
    """The same run with its rows in another order, a row less, and two hard rows that became easy."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "other"))
    split = pq.read_table(folder / "tables" / "split.parquet")
    hard = np.array(split["hard"].to_pylist())
    hard[np.flatnonzero(hard)[:2]] = False
    split = split.set_column(split.column_names.index("hard"), "hard", pa.array(hard))
    order = np.random.default_rng(0).permutation(len(split))
    for name in ("split", "scores", "plan", "trajectories"):
        path = folder / "tables" / f"{name}.parquet"
        table = split if name == "split" else pq.read_table(path)
        pq.write_table(table.take(pa.array(order[:-1])), path)
    run = json.loads((folder / "run.json").read_text())
    run["recipe"] = {**(run.get("recipe") or {}), "seed": 99, "augmenters": [{"times": 3}]}
    run["counts"]["output"] = run["counts"]["output"] + 5
    run = {name: value for name, value in run.items() if name != "checksum"}
    (folder / "run.json").write_text(record_text(run))
    return folder


def test_a_run_agrees_with_itself(finished_run: Path) -> None:
    found = run_difference(finished_run, finished_run)
    assert found["jaccard"] == 1
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["sides"]["only_first"] == found["sides"]["only_second"] == 0
    assert found["recipe"] == {}
    assert all(first == second for first, second in found["mixture"].values())


def test_what_changed_is_named(finished_run: Path, other: Path) -> None:
    found = run_difference(finished_run, other)
    assert found["rows"] == {"in_both": 399, "only_first": 1, "only_second": 0}
    gone = found["sides"]["only_first"]
    assert gone in (1, 2)  # the row that is missing may be one of them
    assert len(found["changed"]["only_first"]) == gone
    hard = found["sides"]["hard_in_both"]
    assert found["jaccard"] == hard / (hard + gone)
    assert found["mixture"]["output"][1] - found["mixture"]["output"][0] == 5
    assert found["recipe"]["seed"][1] == 99


def test_a_folder_without_tables_is_named(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text((finished_run / "run.json").read_text())
    with pytest.raises(InputError, match=r"split\.parquet"):
        run_difference(finished_run, tmp_path)
