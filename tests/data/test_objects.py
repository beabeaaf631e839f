"""Datasets of other libraries: frames of pandas, and the hub."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

from curate.data.readers import read
from curate.errors import ExternalError, InputError
from tests.fixtures.tables import ROWS, fails


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
