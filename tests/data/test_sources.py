"""What cannot be opened is an error of one line that names the place and the remedy."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from curate.data.readers import read
from tests.fixtures.tables import ROWS, TABLE, fails, write


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', "a.jsonl, line 3: not JSON"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', "a.jsonl, line 2: holds list, not an object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "a.jsonl, line 2: not valid UTF-8"),
        ("a.jsonl", b'{"text": "x", "text": "y"}\n', "a.jsonl, line 1: key 'text' appears twice"),
        ("a.json", b'[{"text": "x"}, 3]', "a.json, item 1: holds int"),
        ("a.json", b'[{"text": "x"}', "a.json is not JSON"),
        ("a.csv", b"text,n\nx,1\ny\n", "a.csv: .*Row #3: Expected 2 columns, got 1"),
        ("a.csv", b"text\nx\n\xff\n", "a.csv, line 3: not valid UTF-8"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b'text,n\nx,1\ny,"2\n', "a.csv, last row: the last cell begins with a quote that nothing closes"),
        ("a.parquet", b"PAR1 nonsense PAR1", "a.parquet is not a readable Parquet file"),
        ("a.arrow", b"nonsense", "a.arrow is not a readable Arrow file"),
        ("a.jsonl.gz", b"nonsense", "a.jsonl.gz cannot be read"),
        ("a.docx", b"x", "unknown format '.docx'; data files end in .arrow"),
    ],
)
def test_unreadable_files_name_the_place(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    fails(message, tmp_path / name)


def test_lone_surrogates_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'{"text": "fine"}\n{"text": "\\ud800"}\n')
    fails("row 1 .*'text' is not valid UTF-8", path)
    assert read(path, on_bad_row="drop").rows.tolist() == [0]


def test_truncated_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    fails("t.parquet is not a readable Parquet file", path)


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    fails("holds no data files", tmp_path)
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.jsonl")
    fails("mixes JSON and Parquet files", tmp_path)
    (tmp_path / "b.jsonl").unlink()
    write(tmp_path / "b.parquet", TABLE.set_column(2, "level", pa.array(["x"] * 12)))
    fails("b.parquet: column 'level' holds string, but int64 in the files before", tmp_path)
    fails("has no split 'test'; it has train", tmp_path, split="test")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    fails("neither a file nor a folder", tmp_path / "rows.jsonl")


def test_paths_that_do_not_exist_name_near_ones(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet")
    fails("does not exist: did you mean .*train.parquet", str(tmp_path / "trian.parquet"))
    fails("no folder", str(tmp_path / "x" / "y.parquet"))
    fails(r"no file of a similar name \(but train.parquet\)", tmp_path / "zzzz")
    (tmp_path / "trains.parquet").mkdir()
    (tmp_path / "trains.parquet" / "run.json").touch()  # a result
    fails(r"did you mean .*/train.parquet\?", tmp_path / "trainss.parquet")
    fails("missing.jsonl does not exist", "missing.jsonl")
    (tmp_path / "link").symlink_to("elsewhere")  # without a suffix, like the name of a dataset on the hub
    fails("link is a link to elsewhere, which does not exist", str(tmp_path / "link"))
    fails("split=train is for folders", tmp_path / "train.parquet", split="train")


def test_objects_of_unknown_types() -> None:
    fails("data is a builtins.set; give a path", {1})
    fails("split=x is for datasets of several splits", TABLE, split="x")
    pair = datasets.DatasetDict({"a": datasets.Dataset.from_list(ROWS), "b": datasets.Dataset.from_list(ROWS)})
    fails("has the splits a, b and none is train; choose one with split=NAME", pair)
    assert read(pair, split="b").split == "b"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_with_other_columns_than_the_others_is_named(suffix: str, tmp_path: Path) -> None:
    write(tmp_path / f"1.{suffix}", pa.table({"prompt": ["a"], "completion": ["b"]}))
    write(tmp_path / f"2.{suffix}", pa.table({"question": ["a"], "answer": ["b"]}))
    fails(rf"row 1 .*null.*; 2.{suffix} has the columns question, answer, 1.{suffix} has prompt, completion", tmp_path)


def test_a_pattern_that_joins_splits_says_so(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "test.jsonl", "trainer.jsonl"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    joined = "4 files: test.jsonl, train-0.jsonl, train-1.jsonl, trainer.jsonl; read as one, though their names are of "
    assert read(str(tmp_path / "*.jsonl")).notes[0].startswith(joined + "splits (test, train)")
    assert read(str(tmp_path / "train*.jsonl")).notes[0].endswith("train-1.jsonl, trainer.jsonl")
