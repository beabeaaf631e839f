"""How to train on a dataset: settings of LLaMA-Factory and axolotl that name the columns that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from augmenters import Duplicate
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.data.written_form import WrittenForm, written_form
from curate.pipeline import Pipeline
from curate.report.trainer_snippets import (
    axolotl_settings,
    dataset_info,
    form_of,
    llama_factory_entry,
    training_section,
)
from curate.report.trl_snippet import trl_snippet
from curate.storage.records import read_finished
from scorers import Length

SPOKEN = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ASKED, SAID = [{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}]


def _form(*rows: dict[str, Any]) -> WrittenForm:
    examples = read(pa.Table.from_pylist(list(rows))).examples
    return written_form(examples, examples.table)


FORMS = {
    "text": {"text": "a"},
    "prompt and completion": {"prompt": "a", "completion": "b"},
    "question": {"question": "a", "answer": "b"},
    "instruction": {"instruction": "a", "input": "c", "output": "b"},
    "messages": {"messages": [*ASKED, *SAID]},
    "sharegpt": {"conversations": SPOKEN},
    "pairs": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "pairs of messages": {"conversations": SPOKEN[:1], "chosen": SPOKEN[1], "rejected": SPOKEN[1]},
    "labels": {"prompt": "a", "completion": "b", "label": True},
}


@pytest.mark.parametrize("name", FORMS)
def test_settings_name_columns_that_are_there(name: str) -> None:
    form = _form(FORMS[name])
    entry = llama_factory_entry(form)
    assert entry["file_name"] == "data"
    assert set(entry["columns"].values()) <= set(FORMS[name])
    assert entry.get("ranking", False) is ("pairs" in name)
    settings = yaml.safe_load(axolotl_settings(form))
    assert settings.get("rl") == {"preference": "dpo", "kto": "kto"}.get(form.kind)
    (dataset,) = settings["datasets"]
    assert dataset["path"] == "path/to/this/folder"
    kind = dataset["type"]
    named = dataset if isinstance(kind, str) else kind
    assert {value for key, value in named.items() if key.startswith("field")} <= set(FORMS[name])
    compile(trl_snippet(form), name, "exec")
    assert "copy" in training_section(form)


def test_entries_of_llama_factory() -> None:
    assert llama_factory_entry(_form(FORMS["instruction"])) == {
        "file_name": "data",
        "columns": {"prompt": "instruction", "query": "input", "response": "output"},
    }
    entry = llama_factory_entry(_form(FORMS["messages"]))
    assert entry["formatting"] == "sharegpt"
    assert entry["columns"] == {"messages": "messages"}
    assert entry["tags"]["role_tag"] == "role"
    assert (entry["tags"]["user_tag"], entry["tags"]["assistant_tag"]) == ("user", "assistant")
    tags = llama_factory_entry(_form(FORMS["sharegpt"]))["tags"]
    assert (tags["role_tag"], tags["user_tag"], tags["assistant_tag"]) == ("from", "human", "gpt")
    assert llama_factory_entry(_form(FORMS["labels"]))["columns"]["kto_tag"] == "label"
    assert llama_factory_entry(_form(FORMS["pairs"]))["columns"] == {
        "prompt": "prompt",
        "chosen": "chosen",
        "rejected": "rejected",
    }


def test_what_a_trainer_does_not_read_is_left_out_and_said() -> None:
    form = _form({"prompt": ASKED, "completion": SAID})
    assert llama_factory_entry(form) == {}
    assert json.loads(dataset_info(form)) == {}
    assert "--write-as sharegpt" in training_section(form)


def test_a_folder_has_the_entry_and_the_card_what_the_input_said_of_its_license(tmp_path: Path) -> None:
    import datasets

    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    rows = {"question": [f"q{k}" for k in range(12)], "answer": ["a" * (1 + 9 * (k > 8)) for k in range(12)]}
    pq.write_table(pa.table(rows), source / "data" / "train-00000-of-00001.parquet")
    front = "license: cc-by-4.0\nlanguage:\n- en\n- de\ntask_categories:\n- question-answering\npretty_name: Nails\n"
    (source / "README.md").write_text(f"---\n{front}---\n# Nails\n", encoding="utf-8")
    out = tmp_path / "out"
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate()])
    curated = pipeline.run(source, out=out)
    card = (out / "README.md").read_text(encoding="utf-8")
    carried = yaml.safe_load(card.split("---")[1])
    assert carried["license"] == "cc-by-4.0"
    assert carried["language"] == ["en", "de"]
    assert carried["task_categories"] == ["question-answering"]
    assert "pretty_name" not in carried
    info = json.loads((out / "dataset_info.json").read_text(encoding="utf-8"))
    assert info == {"curated": {"file_name": "data", "columns": {"prompt": "question", "response": "answer"}}}
    assert form_of(read_finished(out)) == form_of(curated.record())
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"), split="train")
    assert loaded.filter(lambda row: row["copy"] == 0).num_rows == 12
    assert loaded.num_rows > 12
