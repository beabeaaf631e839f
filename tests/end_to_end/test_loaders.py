"""Results opened by other versions of `datasets`: 4.0.0, which LLaMA-Factory pins and has no Json, and the newest."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.data.readers import read
from curate.pipeline import Pipeline
from tests import ROOT

pytestmark = pytest.mark.loaders

_ENVIRONMENTS = ROOT / ".venv-loaders"
_OPEN = """
import json, sys
from datasets import load_dataset
found = {}
for folder in sys.argv[1:]:
    try:
        found[folder] = [row for row in load_dataset(folder, split="train")]
    except Exception as error:
        found[folder] = repr(error) + repr(error.__cause__)
print(json.dumps(found))
"""
_ADDED = ("example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard")
Row = dict[str, Any]


def _calls(k: int, content: str | None) -> list[Row]:
    call = {"id": f"c{k}", "type": "function", "function": {"name": "add", "arguments": json.dumps({"a": k})}}
    return [
        {"role": "user", "content": f"How much is {k} and 1?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{k}", "content": str(k + 1)},
        {"role": "assistant", "content": f"It is {k + 1}."},
    ]


def _tools(k: int) -> list[Row]:
    names = ("add", "store")[: 1 + k % 2]
    return [
        {"type": "function", "function": {"name": name, "parameters": {name: {"type": "integer"}}}} for name in names
    ]


def _prompt(k: int, **others: Any) -> Row:
    return {"prompt": f"How much is {k} and 1?", "completion": f"It is {k + 1}.", **others}


# By name: a row, and the columns of it that are JSON in a result.
CASES: dict[str, tuple[Callable[[int], Row], tuple[str, ...]]] = {
    "tools": (lambda k: {"messages": _calls(k, ""), "tools": _tools(k)}, ("messages", "tools")),
    "chat": (lambda k: {"messages": [_calls(k, "")[0], _calls(k, "")[3]], "weight": k / 7}, ()),
    "chat as text": (lambda k: {"messages": json.dumps([_calls(k, "")[0], _calls(k, "")[3]])}, ()),
    "sparse keys": (lambda k: _prompt(k, tags={"abc"[k % 3]: k}), ("tags",)),
    "empty objects": (lambda k: _prompt(k, meta={}), ("meta",)),
    "mixed kinds": (lambda k: _prompt(k, level=k if k % 2 else f"Level {k}"), ("level",)),
    "big integers": (lambda k: _prompt(k, uid=str(18446744073709551601 + k)), ()),
    "numbers, lists and nulls": (
        lambda k: _prompt(k, n=k, x=k / 3, ok=k % 2 == 0, tags=["a"] * (k % 3), none=None),
        (),
    ),
    "objects of one kind": (lambda k: _prompt(k, meta={"level": k, "of": {"name": None if k % 2 else "a"}}), ()),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A result of every case, with its JSON as such and as text."""
    place = tmp_path_factory.mktemp("results")
    folders = {}
    for number, (name, (make, _)) in enumerate(CASES.items()):
        rows = place / f"{number}.jsonl"
        rows.write_text("\n".join(json.dumps(make(k)) for k in range(12)), encoding="utf-8")
        for nested in ("json", "text"):
            out = folders[name, nested] = place / f"{number}_{nested}"
            pipeline = Pipeline.from_recipe("quick")
            pipeline.run(rows, out=out, scores=np.linspace(0, 1, 12), cache=place / "cache", nested=nested)
    return folders


def _opened(environment: str, folders: list[Path], cache: Path) -> dict[str, Any]:
    """By folder the rows as that version gives them, or its error as text."""
    python = _ENVIRONMENTS / environment / "bin" / "python"
    if not python.exists():
        pytest.skip("`make test-loaders` makes the environments")
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [python, "-c", _OPEN, *map(str, folders)],
        env={**inherited, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("environment", ["datasets-4.0.0", "datasets-newest"])
def test_results_open(environment: str, written: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    opened = _opened(environment, [*written.values()], tmp_path)
    for (name, nested), folder in written.items():
        make, json_columns = CASES[name]
        found = opened[str(folder)]
        if json_columns and nested == "json" and environment == "datasets-4.0.0":
            assert "arrow.json" in found or "Json" in found, (name, found)  # which `--nested text` is for
            continue
        assert isinstance(found, list), (name, nested, found)
        values = [{key: row[key] for key in row if key not in _ADDED} for row in found if row["copy"] == 0]
        if nested == "text":
            for row in values:
                row |= {key: json.loads(row[key]) for key in json_columns}
        assert _sorted(values) == _sorted([make(k) for k in range(12)]), (name, nested)


def _sorted(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


# -- LLaMA-Factory's own loader, and the text that it makes of calls --------------------------------------------------

_ALIGN = """
import json, sys, logging
from pathlib import Path
from llamafactory.data.formatter import FunctionFormatter
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments
training = Seq2SeqTrainingArguments(output_dir=sys.argv[1], report_to=[])
formatter = FunctionFormatter(slots=["{{content}}"], tool_format="qwen")
found = {}
for folder in sys.argv[2:]:
    data = DataArguments(dataset="curated", dataset_dir=folder, template="default")
    entry = json.loads((Path(folder) / "dataset_info.json").read_text())["curated"]
    stage = "rm" if entry.get("ranking") else "kto" if "kto_tag" in entry["columns"] else "sft"
    model = ModelArguments(model_name_or_path="x", cache_dir=sys.argv[1])
    rows = _get_merged_dataset(["curated"], model, data, training, stage)
    text = lambda t: formatter.apply(content=t["content"])[0] if t["role"] == "function" else t["content"]
    found[folder] = [
        [(turn["role"], text(turn)) for turn in turns]
        for turns in ([*row["_prompt"], *row["_response"]] for row in rows)
    ]
print(json.dumps(found))
"""


def _said(answer: str) -> list[Row]:
    return [{"role": "assistant", "content": answer}]


# By form and kind: a row, and what LLaMA-Factory has to make of it: (role, text) of the prompt and of the answers.
_ASKED = [{"role": "user", "content": "1 + 1?"}]
_READ: dict[tuple[Any, str], tuple[Row, list[tuple[str, str]]]] = {
    ("sharegpt", "tools"): (
        {"messages": _calls(1, ""), "tools": json.dumps(_tools(0))},
        [
            ("user", "How much is 1 and 1?"),
            ("function", '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'),
            ("observation", "2"),
            ("assistant", "It is 2."),
        ],
    ),
    ("messages", "chat"): ({"messages": [*_ASKED, *_said("2.")]}, [("user", "1 + 1?"), ("assistant", "2.")]),
    ("input", "preference"): (
        {"prompt": "1 + 1?", "chosen": "2.", "rejected": "3."},
        [("user", "1 + 1?"), ("assistant", "2."), ("assistant", "3.")],
    ),
    ("sharegpt", "preference of messages"): (
        {"prompt": _ASKED, "chosen": _said("2."), "rejected": _said("3.")},
        [("user", "1 + 1?"), ("assistant", "2."), ("assistant", "3.")],
    ),
    ("input", "kto"): (
        {"prompt": "1 + 1?", "completion": "2.", "label": True},
        [("user", "1 + 1?"), ("assistant", "2."), ("assistant", "")],
    ),
}


def test_llama_factory_reads_what_was_written(tmp_path: Path) -> None:
    python = _ENVIRONMENTS / "llama-factory" / "bin" / "python"
    if not python.exists():
        pytest.skip("`make llama-factory` makes the environment")
    folders = {}
    for number, ((form, kind), (row, _)) in enumerate(_READ.items()):
        out = folders[form, kind] = tmp_path / str(number)
        rows = [row, *({**row, "n": k} for k in range(5))]
        Pipeline.from_recipe("quick").run(
            read(rows, nested="text"), out=out, scores=np.linspace(0, 1, 6), cache=tmp_path / "cache", write_as=form
        )
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [python, "-c", _ALIGN, str(tmp_path / "x"), *map(str, folders.values())],
        env={**inherited, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for (form, kind), (_, expected) in _READ.items():
        made = found[str(folders[form, kind])]
        assert len(made) > 6, (form, kind)  # copies too
        assert all(turns == [list(turn) for turn in expected] for turns in made), (form, kind, made[0])
