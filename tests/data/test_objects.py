"""Datasets of other libraries: frames of pandas, and the hub."""

from __future__ import annotations

import datetime
import math
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from curate.data.objects import from_arrow, from_columns, from_rows, hands_out_arrow
from curate.data.readers import read
from curate.data.writers import hand_back
from curate.errors import ExternalError, InputError
from tests.fixtures.tables import ROWS, fails

EXTRA = pa.table({"copy": [0, 0, 1]})


def test_a_column_of_pandas_that_arrow_does_not_know_is_read_by_its_values_or_refused() -> None:
    frame = pd.DataFrame({"prompt": ["a", "b"], "completion": ["c", "d"]})
    loaded = read(frame.assign(x=pd.arrays.SparseArray([0, 7])))
    assert loaded.examples.table["x"].to_pylist() == [0, 7]
    for values, message in (
        (np.array([1j, 2j]), "column 'x' holds complex128, for which Arrow has no type"),
        (pd.Series([{"u", "v"}, {"w"}]), "column 'x' holds a set"),
    ):
        with pytest.raises(InputError, match=message):
            read(frame.assign(x=values))


def test_hub_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(name: str, config: str | None, split: str) -> Any:
        asked.append((name, config, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("someone/some-data").kind == "hub"
    loaded = read("someone/some-data", config="main", split="test")
    assert asked == [("someone/some-data", None, "train"), ("someone/some-data", "main", "test")]
    assert loaded.description == "someone/some-data (main), split test"


def test_a_hub_dataset_that_wants_its_config_and_split_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, config: str | None, split: str) -> Any:
        if config not in ("main", "socratic") or not split.endswith("_sft"):
            raise ValueError("Config name is missing.")
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: ["main", "socratic"])
    monkeypatch.setattr(datasets, "get_dataset_default_config_name", lambda name: None)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["test_sft", "train_sft"])
    loaded = read("someone/some-data")
    assert loaded.description == "someone/some-data (main), split train_sft"
    assert "config main of main, socratic" in loaded.notes[0]
    assert "split train_sft of test_sft, train_sft" in loaded.notes[0]
    assert read("someone/some-data", config="socratic", split="test_sft").split == "test_sft"
    fails("has no split 'test' .*it has test_sft, train_sft", "someone/some-data", split="test")
    fails("has no config 'x'; it has main, socratic", "someone/some-data", config="x")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (datasets.exceptions.DatasetNotFoundError("no such"), InputError, "neither a local path nor a dataset"),
        (ValueError('Unknown split "train".\nMore.'), InputError, "split train cannot be loaded: Unknown split"),
        (FileNotFoundError("no files"), InputError, "no data that can be loaded"),
        (ConnectionError("timed out"), ExternalError, "did not answer.*run the same command"),
    ],
)
def test_hub_errors(error: Exception, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "get_dataset_config_names", load)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(kind, match=message) as caught:
        read("someone/some-data")
    assert "\n" not in str(caught.value)
    if kind is ExternalError:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        fails("HF_HUB_OFFLINE is set and it is not in the local cache; unset", "someone/some-data")


def test_lists_and_dicts_come_back_as_they_came_in() -> None:
    when = datetime.date(2026, 1, 2)
    rows = [{"prompt": "p", "completion": f"c{k}", "meta": {"k" * k: k}, "when": when} for k in range(1, 4)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    index = np.array([2, 0, 2])
    wanted = [{**rows[k], "copy": copy} for k, copy in zip(index, (0, 0, 1), strict=True)]
    assert hand_back(read(rows), index, EXTRA) == wanted
    assert hand_back(read(columns), index, EXTRA) == {name: [row[name] for row in wanted] for name in wanted[0]}
    assert "meta" in read(rows).notes[-1]


def test_new_rows_stand_among_the_others() -> None:
    new = pa.table({"prompt": ["new"], "completion": ["row"]})
    rows = [{"prompt": "p", "completion": "c", "n": 1}]
    found = hand_back(read(rows), np.array([1, 0]), EXTRA.slice(0, 2), new)
    assert found == [{"prompt": "new", "completion": "row", "copy": 0}, {**rows[0], "copy": 0}]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert hand_back(read(columns), np.array([1, 0]), EXTRA.slice(0, 2), new)["n"] == [None, 1]


def test_a_key_that_a_row_lacks_is_null() -> None:
    table, _ = from_rows([{"a": 1}, {"b": math.nan}, {"a": None, "b": 2.5}])
    assert table["a"].to_pylist() == [1, None, None]
    assert str(table["b"].to_pylist()) == "[None, nan, 2.5]"


def test_columns_may_be_arrays() -> None:
    table, _ = from_columns(
        {"a": np.array([1, 2]), "b": pd.Series(["x", "y"]), "c": pa.array([[1], None]), "d": (None, {"k": np.int8(3)})}
    )
    assert table.to_pylist() == [
        {"a": 1, "b": "x", "c": [1], "d": None},
        {"a": 2, "b": "y", "c": None, "d": {"k": 3}},
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"text": "a"}, "b"], "item 1 of the list is a str, not a dict of a row"),
        ([{1: "a"}], "column names 1 are not all strings"),
        ([], "list of rows has no rows"),
        ({"prompt": ["a"], "completion": ["b", "c"]}, r"different lengths \(prompt 1, completion 2\)"),
        ({"prompt": "a"}, "key 'prompt' of the dict holds a str, not a list"),
        (
            {"train": datasets.Dataset.from_list(ROWS)},
            r"holds a Dataset, not a list of its cells; give data\['train'\]",
        ),
        ([{"text": {1, 2}}], "column 'text' holds a set"),
        (iter([{"text": "a"}]), r"data is a builtins.list_iterator; give .* list\(data\)"),
    ],
)
def test_what_is_no_rows_is_named(data: Any, message: str) -> None:
    fails(message, data)


def test_nesting_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    fails("nests too deep", [{"text": "a", "x": endless}])


def test_options_of_files_are_refused_for_data_in_memory() -> None:
    fails("--encoding cp1252 is for CSV, JSON and text files; leave it out", ROWS, encoding="cp1252")
    fails("split=x is for datasets of several splits", ROWS, split="x")


def test_streams_that_break_are_named() -> None:
    class Broken:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            raise RuntimeError("the query failed\nat line 3")

    assert hands_out_arrow(Broken())
    assert not hands_out_arrow(ROWS)
    with pytest.raises(InputError, match=r"Broken cannot be converted to an Arrow table \(the query failed\)"):
        from_arrow(Broken())


def test_text_stored_as_views_is_json_all_the_same() -> None:
    """Arrow calls JSON over views equal to other JSON, and reads memory behind it."""
    texts = ['{"role": "user", "content": "q"}', '{"role": "assistant", "content": "long enough for a view", "x": 1}']
    views = pa.ExtensionArray.from_storage(pa.json_(pa.string_view()), pa.array(texts * 2, pa.string_view()))
    offsets = pa.array([0, 2, 2, 4], pa.int64())
    lists = pa.LargeListArray.from_arrays(offsets, views, mask=pa.array([False, True, False]))
    for column in (lists, lists.slice(2)):
        examples = read(pa.table({"messages": column}), on_bad_row="drop").examples
        assert [turn["content"] for turn in examples.texts("messages", 0, 1)[0]] == ["q", "long enough for a view"]
        assert examples.table["messages"].cast(pa.large_list(pa.string())).to_pylist()[-1] == texts
