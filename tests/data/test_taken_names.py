"""Columns of the input that are called as those of a result: kept, under another name, in every kind of input."""

from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augmenters import Duplicate
from curate import Pipeline
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.data.taken_names import other_names
from curate.errors import InputError
from scorers import Length

# As Magpie (difficulty) and synthetic data (generator) have it.
COLUMNS = {
    "prompt": [f"{k}?" for k in range(8)],
    "completion": ["x" * (k + 1) for k in range(8)],
    "difficulty": ["easy", "hard"] * 4,
    "generator": ["somebody"] * 8,
    "input_generator": [1] * 8,
}
OTHER = {"difficulty": "input_difficulty", "generator": "input_generator_2"}


def _kinds(folder: Path) -> dict[str, Any]:
    table = pa.table(COLUMNS)
    pq.write_table(table, folder / "rows.parquet")
    labels = datasets.Dataset.from_dict(COLUMNS).cast_column("difficulty", datasets.ClassLabel(names=["easy", "hard"]))
    return {
        "file": str(folder / "rows.parquet"),
        "table": table,
        "pandas": pd.DataFrame(COLUMNS),
        "rows": table.to_pylist(),
        "columns": COLUMNS,
        "dataset": labels,
    }


@pytest.mark.parametrize("kind", ["file", "table", "pandas", "rows", "columns", "dataset"])
def test_both_columns_are_in_the_result(kind: str, tmp_path: Path) -> None:
    data = _kinds(tmp_path)[kind]
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[])
    curated = pipeline.run(data, out=tmp_path / "out")
    found = curated.dataset
    written = pq.read_table(tmp_path / "out" / "data").to_pandas()
    frame = pd.DataFrame(found.to_pylist() if isinstance(found, pa.Table) else found if kind != "dataset" else found[:])
    for rows in (frame, written):
        rows = rows.sort_values("prompt").reset_index(drop=True)
        values = rows["input_difficulty"].tolist()
        assert values == (["easy", "hard"] * 4 if kind != "dataset" else [0, 1] * 4)
        assert rows["input_generator_2"].tolist() == ["somebody"] * 8
        assert rows["input_generator"].tolist() == [1] * 8
        assert rows["difficulty"].tolist() == list(range(1, 9))
    if kind == "dataset":
        assert found.features["input_difficulty"].names == ["easy", "hard"]
        assert datasets.load_dataset(str(tmp_path / "out"), split="train").features == found.features


def test_one_line_says_so_and_roles_and_conditions_take_either_name() -> None:
    loaded = read(pa.table(COLUMNS), columns="source=difficulty", where="difficulty=hard")
    assert len(loaded.examples) == 4
    assert loaded.examples.columns["source"] == "input_difficulty"
    sources = loaded.examples.sources()
    assert sources is not None
    assert {*sources} == {"hard"}
    line = "kept under another name, since results have columns of these names: "
    assert loaded.notes[-1] == line + "difficulty as input_difficulty, generator as input_generator_2"
    again = read(pa.table(COLUMNS), columns="source=input_difficulty", where="difficulty=hard")
    assert again.examples.fingerprint() == loaded.examples.fingerprint()
    assert again.examples.columns == loaded.examples.columns


def test_a_name_is_another_one_only_where_it_must_be() -> None:
    assert other_names(["prompt", "level"]) == {}
    assert other_names(["hard", "input_hard", "input_hard_2"]) == {"hard": "input_hard_3"}


@pytest.mark.parametrize("unique", [True, False])
def test_a_column_of_example_ids_is_the_id_where_it_can_be_and_stays(unique: bool) -> None:
    ids = [f"task/{k if unique else 0}" for k in range(8)]
    loaded = read({**COLUMNS, "example_id": ids})
    assert (loaded.examples.ids.to_pylist() == ids) is unique
    assert any("so ids are content hashes" in note for note in loaded.notes) is not unique
    assert loaded.examples.table["input_example_id"].to_pylist() == ids


def test_a_result_is_curated_again_without_its_copies(tmp_path: Path) -> None:
    """All that it says of its rows stays, under other names, and the rows have the ids that they had."""
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate(times=2)])
    pipeline.run({name: COLUMNS[name] for name in ("prompt", "completion")}, out=tmp_path / "one")
    with pytest.raises(InputError, match=r"was curated before, and .* of its .* rows are copies"):
        read(tmp_path / "one")
    pipeline.run(read(tmp_path / "one", where="copy=0"), out=tmp_path / "two")
    first, second = (pq.read_table(tmp_path / name / "data").to_pandas() for name in ("one", "two"))
    first, second = (rows[rows["copy"] == 0].set_index("prompt").sort_index() for rows in (first, second))
    assert second["example_id"].tolist() == first["example_id"].tolist()
    for name in ("example_id", "source_id", "difficulty", "hard"):
        assert second[f"input_{name}"].tolist() == first[name].tolist()
