"""Writing: the rows asked for, in order, with the input's types, and files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data.readers import read
from curate.data.writers import assemble, hand_back, write_parquet_shards
from curate.engine import Ray
from curate.errors import InputError
from tests.fixtures.mixed_rows import plain, table_of
from tests.fixtures.ray_cluster import Inline


def extra_of(m: int) -> pa.Table:
    missing = np.arange(m) % 3 == 0
    return pa.table(
        {
            "example_id": pa.array([f"id{k}" for k in range(m)], pa.string()),
            "difficulty": pa.array(np.arange(m, dtype=np.float32), mask=missing),
            "cluster": pa.array(np.arange(m, dtype=np.int32), mask=missing),
            "hard": pa.array(np.arange(m) % 2 == 0, mask=missing),
        }
    )


# --- taking rows -----------------------------------------------------------------------------------------------


# --- the output table ------------------------------------------------------------------------------------------


def test_assemble_puts_new_rows_and_added_columns_beside_the_input() -> None:
    new = pa.table({"text": pa.array(["n0", "n1"], pa.large_string()), "category": ["c9", None]})
    index = np.array([61, 3, 60, 3, 0])
    out = assemble([table_of(60), new], index, extra_of(5))
    assert out.schema.names == [*table_of(1).schema.names, "example_id", "difficulty", "cluster", "hard"]
    assert [field.type for field in out.schema][:7] == [field.type for field in table_of(1).schema]
    assert out["text"].to_pylist() == ["n1", "text 3", "n0", "text 3", "text 0"]
    assert out["category"].to_pylist() == [None, "c0", "c9", "c0", "c0"]
    assert out["level"].to_pylist() == [None, 3, None, 3, None]
    assert out.select(extra_of(5).column_names).to_pylist() == extra_of(5).to_pylist()
    assert assemble([table_of(3)], np.zeros(0, np.int64), extra_of(0)).schema.equals(out.schema)


def test_assemble_refuses_what_does_not_fit() -> None:
    index = np.arange(3)
    with pytest.raises(InputError, match="added columns have 2 rows for 3 output rows"):
        assemble([table_of(3)], index, extra_of(2))
    with pytest.raises(InputError, match="column 'text' of the input has the name of an added column"):
        assemble([table_of(3)], index, pa.table({"text": [1, 2, 3]}))
    with pytest.raises(InputError, match="new rows have a column 'other'"):
        assemble([table_of(3), pa.table({"other": [1]})], index, extra_of(3))
    with pytest.raises(InputError, match="column 'level' of the new rows holds string, not int16"):
        assemble([table_of(3), pa.table({"level": ["x"]})], index, extra_of(3))


# --- shards ----------------------------------------------------------------------------------------------------


def test_shards_hold_the_assembled_table_in_order(tmp_path: Path, small_slices: None) -> None:
    index = np.random.default_rng(0).integers(0, 40, 95)
    extra = extra_of(95)
    paths = write_parquet_shards([table_of(40)], index, extra, tmp_path, rows_per_shard=30)
    assert [path.name for path in paths] == [f"train-{k:05d}-of-00004.parquet" for k in range(4)]
    assert [pq.read_metadata(path).num_rows for path in paths] == [30, 30, 30, 5]
    groups = [
        pq.read_metadata(path).row_group(k).num_rows
        for path in paths
        for k in range(pq.read_metadata(path).num_row_groups)
    ]
    assert groups == [10] * 9 + [5]
    written = pa.concat_tables([pq.ParquetFile(path).read() for path in paths])
    expected = assemble([table_of(40)], index, extra)
    assert written.to_pylist() == expected.to_pylist()
    assert written.schema.equals(expected.schema)


def test_shard_sizes_that_are_no_multiple_of_a_row_group(tmp_path: Path, small_slices: None) -> None:
    index = np.arange(40)[::-1].copy()
    paths = write_parquet_shards([table_of(40)], index, extra_of(40), tmp_path, rows_per_shard=13, name="x")
    texts = [text for path in paths for text in pq.ParquetFile(path).read()["text"].to_pylist()]
    assert texts == [f"text {k}" for k in index]
    assert [pq.read_metadata(path).num_rows for path in paths] == [13, 13, 13, 1]


def test_no_rows_give_one_empty_shard(tmp_path: Path) -> None:
    (path,) = write_parquet_shards([table_of(3)], np.zeros(0, np.int64), extra_of(0), tmp_path)
    assert path.name == "train-00000-of-00001.parquet"
    assert pq.read_metadata(path).num_rows == 0


def digest(paths: list[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def test_bytes_depend_on_rows_only(tmp_path: Path) -> None:
    index = np.random.default_rng(0).integers(0, 500, 900)
    table = table_of(500)
    chunked = pa.concat_tables([table.slice(0, 123), table.slice(123)])
    pandas_like = table.replace_schema_metadata({"pandas": "{}", "made": "today"})
    seen = set()
    for number, each in enumerate([table, table, chunked, pandas_like]):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen.add(digest(write_parquet_shards([each], index, extra_of(900), folder)))
    assert len(seen) == 1
    (tmp_path / "other").mkdir()
    assert digest(write_parquet_shards([table], index[::-1], extra_of(900), tmp_path / "other")) not in seen


def test_datasets_loads_the_folder_with_its_features(tmp_path: Path) -> None:
    source = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    source = source.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    loaded = read(source)
    (tmp_path / "out" / "data").mkdir(parents=True)
    index = np.array([2, 1, 1, 0])
    write_parquet_shards([loaded.examples.table], index, extra_of(4), tmp_path / "out" / "data", rows_per_shard=3)
    back = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert back["text"][:] == ["c", "b", "b", "a"]
    assert back.features["label"].names == ["no", "yes"]
    assert back.features["cluster"] == datasets.Value("int32")
    assert back["example_id"][:] == ["id0", "id1", "id2", "id3"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from curate.errors import ExternalError
from curate.storage.atomic import publishing
from curate.data.writers import write_parquet_shards

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
target = Path(sys.argv[1]) / "data"
rng = np.random.default_rng(0)
table = pa.table({"text": [rng.bytes(60).hex() for _ in range(20_000)]})
index = np.arange(20_000)
extra = pa.table({"copy": index})
def write():
    with publishing(target) as folder:
        write_parquet_shards([table], index, extra, folder, rows_per_shard=15_000)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
try:
    write()
except ExternalError as error:
    print(error)
else:
    sys.exit("no error")
assert list(Path(sys.argv[1]).iterdir()) == [], "something was left"
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
write()
print(len(list(target.iterdir())), "files")
"""


@pytest.mark.slow
def test_a_full_disk_is_an_external_error_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    message, files = done.stdout.splitlines()
    assert "File too large" in message
    assert str(tmp_path) in message
    assert "rerun the same command" in message
    assert files == "2 files"


# --- handing back in kind --------------------------------------------------------------------------------------

INDEX = np.array([2, 0, 2])
EXTRA = extra_of(3)


def frame_of() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": ["a", "b", "c", "d"],
            "level": [1, 2**60 + 1, 3, 4],
            "flag": [True, False, True, False],
            "kind": pd.Categorical(["x", "y", "x", "z"], ordered=False),
            "nullable": pd.array([1, None, 3, 4], dtype="Int8"),
            "when": pd.to_datetime(["2020-01-01", None, "2021-01-01", "2022-01-01"]),
            "weight": np.array([0.5, np.nan, 1.5, 2.0], np.float32),
        },
        index=["r0", "r1", "r2", "r3"],
    )


def test_frames_keep_dtypes_and_index() -> None:
    frame = frame_of()
    loaded = read(frame, where="text!=b")
    out = hand_back(loaded, INDEX, EXTRA)
    expected = frame.iloc[[3, 0, 3]]
    pd.testing.assert_frame_equal(out[list(frame.columns)], expected)
    assert list(out.index) == ["r3", "r0", "r3"]
    assert list(out.columns) == [*frame.columns, *EXTRA.column_names]
    assert out["cluster"].tolist() == [pd.NA, 1, 2]
    assert out["cluster"].dtype == pd.Int32Dtype()
    assert out["hard"].dtype == pd.BooleanDtype()
    assert out["example_id"].tolist() == ["id0", "id1", "id2"]
    pd.testing.assert_frame_equal(frame, frame_of())  # the caller's frame is left alone


def test_new_rows_in_a_frame() -> None:
    frame = frame_of()
    new = pa.table({"text": ["new"], "kind": ["w"], "weight": pa.array([2.5], pa.float32())})
    out = hand_back(read(frame), np.array([1, 4, 0]), EXTRA, new)
    assert out["text"].tolist() == ["b", "new", "a"]
    assert out["kind"].tolist() == ["y", "w", "x"]
    assert out["level"].dtype == pd.Int64Dtype()
    assert out["level"].tolist()[0] == 2**60 + 1
    assert out["flag"].dtype == pd.BooleanDtype()
    for name in ("text", "nullable", "when", "weight"):
        assert out[name].dtype == frame[name].dtype
    assert out[["level", "flag", "nullable", "when"]].iloc[1].isna().all()
    assert out.index[[0, 2]].tolist() == ["r1", "r0"]
    assert pd.isna(out.index[1])
    numbered = hand_back(read(frame.set_axis([7, 3, 9, 1])), np.array([1, 4, 0]), EXTRA, new)
    assert numbered.index.tolist() == [3, 10, 7]


def test_arrow_tables_keep_types() -> None:
    table = table_of(4)
    out = hand_back(read(table), INDEX, EXTRA)
    assert out.select(table.column_names).schema.equals(table.schema)
    assert out.select(table.column_names).to_pylist() == plain(table, INDEX)
    assert out["example_id"].to_pylist() == ["id0", "id1", "id2"]


def dataset_of() -> datasets.Dataset:
    features = datasets.Features(
        text=datasets.Value("large_string"),
        label=datasets.ClassLabel(names=["no", "yes"]),
        turns=datasets.List({"role": datasets.Value("string")}),
    )
    rows = {"text": ["a", "b", "c", "d"], "label": [0, 1, 0, 1], "turns": [[{"role": "x"}], [], [], []]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_datasets_keep_features() -> None:
    dataset = dataset_of()
    out = hand_back(read(dataset.select([3, 1, 0])), INDEX, EXTRA)
    assert isinstance(out, datasets.Dataset)
    assert {name: out.features[name] for name in dataset.features} == dict(dataset.features)
    assert out["text"][:] == ["a", "d", "a"]
    assert out["cluster"][:] == [None, 1, 2]


def test_dataset_dicts_get_a_new_train_split_and_keep_the_others() -> None:
    both = datasets.DatasetDict({"train": dataset_of(), "test": dataset_of().select([0])})
    out = hand_back(read(both), INDEX, EXTRA)
    assert list(out) == ["train", "test"]
    assert out["test"] is both["test"]
    assert out["train"]["text"][:] == ["c", "a", "c"]
    assert len(both["train"]) == 4


def test_files_come_back_as_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(table_of(4).drop_columns("view"), path)
    out = hand_back(read(path), np.array([4, 1, 1]), EXTRA, pa.table({"text": ["new"]}))
    assert isinstance(out, datasets.Dataset)
    assert out["text"][:] == ["new", "text 1", "text 1"]


def test_columns_of_json_are_text_where_asked_and_in_frames_and_lists_the_values_that_came() -> None:
    rows = [{"prompt": "a", "completion": "b", "meta": {"n": 1}}, {"prompt": "c", "completion": "d", "meta": ["x"]}]
    table = read(rows).examples.table
    given = {"list": rows, "frame": pd.DataFrame(rows), "table": table, "dataset": datasets.Dataset(table)}
    found = {}
    for name, data in given.items():
        loaded = read(data, nested="text")
        back = hand_back(loaded, np.arange(2), pa.table({"copy": [0, 0]}))
        found[name] = [row["meta"] for row in back] if name in ("list", "dataset") else list(back["meta"])
    values = [{"n": 1}, ["x"]]
    assert found["list"] == found["frame"] == values
    assert (
        [json.loads(str(cell)) for cell in found["table"]] == [json.loads(cell) for cell in found["dataset"]] == values
    )


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
