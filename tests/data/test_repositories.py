"""Folders have the configs and splits that `datasets.load_dataset` finds in them; two splits are never joined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from curate.data import repositories
from curate.data.readers import read
from curate.data.repositories import choose_config, choose_split
from curate.errors import InputError
from tests.fixtures.tables import fails


def _rows(name: str) -> list[dict[str, str]]:
    return [{"prompt": f"{name} {k}?", "completion": f"{k}"} for k in range(len(name) % 3 + 1)]


def _folder(root: Path, files: Sequence[str], card: str | None = None) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in _rows(name)), encoding="utf-8")
    if card is not None:
        (root / "README.md").write_text(f"---\n{card}---\n# A card\n", encoding="utf-8")
    return root


def _card(*configs: tuple[str, dict[str, Any]], more: str = "") -> str:
    lines = ["configs:"]
    for name, splits in configs:
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {json.dumps(path)}"]
    return "\n".join(lines) + f"\n{more}"


LAYOUTS: dict[str, tuple[list[str], str | None]] = {
    "suffix": (["nails_train.jsonl", "nails_test.jsonl"], None),
    "folder per split": (["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"], None),
    "deep folders": (["data/en/train/a.jsonl", "data/de/train/a.jsonl", "data/en/dev/a.jsonl"], None),
    "shards": (["data/train_sft-00000-of-00001.jsonl", "data/train_gen-00000-of-00001.jsonl"], None),
    "shards and more": (["data/validation-00000-of-00001.jsonl", "data/train-00000-of-00001.jsonl", "x.jsonl"], None),
    "other words": (["training.jsonl", "valid.jsonl", "eval.jsonl"], None),
    "dots": (["a.train.jsonl", "a.dev.jsonl", "rest.jsonl"], None),
    "no split": (["b.jsonl", "a.jsonl", "sub/c.jsonl"], None),
    "one in the name of many": (["retrain.jsonl", "contest.jsonl"], None),
    "hidden": (["train.jsonl", ".train.jsonl", "__pycache__/train.jsonl"], None),
    "card": (["a.jsonl", "b.jsonl", "c.jsonl"], _card(("default", {"train": "b.jsonl", "held_out": ["a.jsonl"]}))),
    "configs": (
        ["main/x_train.jsonl", "main/x_test.jsonl", "socratic/x_train.jsonl", "socratic/x_test.jsonl"],
        _card(*((c, {s: f"{c}/*_{s}.jsonl" for s in ("train", "test")}) for c in ("main", "socratic"))),
    ),
    "a default config": (
        ["a.jsonl", "b.jsonl"],
        _card(("one", {"train": "a.jsonl"}), ("two", {"train": "b.jsonl"}), more="  default: true\n"),
    ),
    "folder per config": (
        ["en/train.jsonl", "de/train.jsonl", "de/test.jsonl"],
        "configs:\n- config_name: en\n  data_dir: en\n- config_name: de\n  data_dir: de\n",
    ),
    "a pattern for all": (["x/1.jsonl", "x/2.jsonl"], "configs:\n- config_name: default\n  data_files: x/*.jsonl\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_split_of_every_config_is_that_of_load_dataset(layout: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "folder", *LAYOUTS[layout])
    configs = datasets.get_dataset_config_names(str(folder))
    for config in configs:
        loaded = datasets.load_dataset(str(folder), config, streaming=True, cache_dir=str(tmp_path / "cache"))
        for split, rows in loaded.items():
            found = read(folder, config=config, split=split)
            assert found.examples.table.to_pylist() == list(rows), (config, split)
            assert found.split == split
            assert all(name in found.notes[0] for name in loaded) or len(loaded) == 1
        default = read(folder, config=config)
        begin = sorted((s for s in loaded if s.startswith("train")), key=lambda name: "sft" not in name)
        assert default.split == ("train" if "train" in loaded else begin[0])
    default_name = datasets.get_dataset_default_config_name(str(folder)) or configs[0]
    assert read(folder).examples.table == read(folder, config=default_name).examples.table


def test_what_there_is_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "a", *LAYOUTS["configs"])
    assert read(folder).notes[0] == (
        "config main of main, socratic; --config takes another. split train of train, test; --split takes another"
    )
    fails("no config 'Main' .did you mean 'main'..; it has main, socratic: choose one", folder, config="Main")
    fails("no split 'validation'; it has train, test: choose one with --split", folder, split="validation")
    folder = _folder(tmp_path / "b", *LAYOUTS["dots"])
    assert "in no split, so not read: rest.jsonl" in read(folder).notes[0]
    folder = _folder(tmp_path / "c", ["train_one.jsonl", "train_two.jsonl", "test.jsonl"])
    assert "2 files: train_one.jsonl, train_two.jsonl" in read(folder).notes[0]
    fails("config=x: the card of folder .* names no configs; leave out --config", folder, config="x")
    fails("config=x is for folders and hub datasets, but .* is a file", folder / "test.jsonl", config="x")
    folder = _folder(tmp_path / "d", ["test.jsonl", "dev.jsonl"])
    fails("has the splits validation, test and none is train; choose one with --split", folder)


@pytest.mark.parametrize(
    "card",
    [
        "configs: 3\n",
        "configs:\n- name: x\n",
        "configs: [\n",
        _card(("a", {"train": "missing.jsonl"})),
        _card(("a", {"train": "x.jsonl"}), ("a", {"train": "x.jsonl", "a-b": "x.jsonl"})),
        _card(("a", {"train": "https://example.org/x.jsonl"})),
    ],
)
def test_a_card_that_cannot_be_followed_is_named(card: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "folder", ["x.jsonl"], card)
    with pytest.raises(InputError, match=r"README\.md") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_folder_of_more_than_data_is_refused_before_it_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MOST_ENTRIES", 3)
    _folder(tmp_path, ["a/one.jsonl"])
    assert read(str(tmp_path)).examples
    _folder(tmp_path, ["a/two.jsonl", "b/three.jsonl"])
    fails("holds more than 3 files and folders; name the folder of the data", str(tmp_path))


def test_choices() -> None:
    assert choose_split(["test", "train"], None, "it") == "train"
    assert choose_split(["test"], None, "it") == "test"
    assert choose_split(["test_sft", "train_sft"], None, "it") == "train_sft"
    assert choose_split(["train_gen", "train_prefs", "train_sft"], None, "it") == "train_sft"
    assert choose_split(["train_a", "train_b"], None, "it") == "train_a"
    assert choose_split(["test", "train"], "test", "it") == "test"
    assert choose_config(["a", "b"], "b", None, "it")[0] == "b"
    assert choose_config(["a"], None, None, "it") == ("a", None)
