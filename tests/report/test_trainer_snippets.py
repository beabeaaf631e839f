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


FORMS: dict[str, dict[str, Any]] = {
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


# Fields of an entry as data/README.md of LLaMA-Factory documents them, and those of a dataset in axolotl's settings.
ENTRY = {"file_name", "ranking", "formatting", "columns", "tags"}
COLUMNS = {"prompt", "query", "response", "history", "messages", "system", "tools", "chosen", "rejected", "kto_tag"}
TAGS = {"role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"}
DATASET = {"path", "type", "field", "field_messages", "field_tools", "field_chosen", "field_rejected"}
DATASET |= {"message_property_mappings", "message_field_training", "roles"}
SFT_TYPE = {"field_system", "field_instruction", "field_input", "field_output", "format", "no_input_format"}
DPO_TYPE = {"field_prompt", "field_chosen", "field_rejected", "prompt_format", "chosen_format", "rejected_format"}
KTO_TYPE = {"field_prompt", "field_completion", "field_label", "prompt_format", "completion_format"}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
}
FURTHER: dict[str, dict[str, Any]] = {
    "tools": {"messages": [*ASKED, CALL, {"role": "tool", "content": "1"}, *SAID], "tools": "[]", "system": "s"},
    "bots": {"messages": [*ASKED, {"role": "bot", "content": "b"}]},
    "history": {"instruction": "a", "input": "", "output": "b", "history": [["c", "d"]], "system": "s"},
    "labels of messages": {"messages": [*ASKED, *SAID], "label": True},
    "untrained": {"messages": [*ASKED, {**SAID[0], "train": False}, *ASKED, *SAID]},
}


@pytest.mark.parametrize("name", [*FORMS, *FURTHER])
def test_fields_are_those_that_the_trainers_document(name: str) -> None:
    form = _form((FORMS | FURTHER)[name])
    entry = llama_factory_entry(form)
    assert bool(entry) is (name != "tools")  # `--write-as sharegpt` is for these
    entry = entry or llama_factory_entry(_form(FURTHER["untrained"]))
    assert entry.keys() <= ENTRY
    assert entry["columns"].keys() <= COLUMNS
    assert entry.get("formatting", "alpaca") in ("alpaca", "sharegpt")
    assert entry.get("tags", {}).keys() in (set(), TAGS)
    assert ("tags" in entry) == ("messages" in entry["columns"])
    settings = axolotl_settings(form)
    assert bool(settings) is (name not in ("history", "labels of messages"))
    if settings:
        (dataset,) = yaml.safe_load(settings)["datasets"]
        assert dataset.keys() <= DATASET
        kind = dataset["type"]
        known = {"sft": SFT_TYPE, "preference": DPO_TYPE, "kto": KTO_TYPE}[form.kind]
        assert kind in ("completion", "chat_template", "chat_template.default") or kind.keys() <= known


def test_tags_of_llama_factory_name_the_speakers_that_are_there() -> None:
    told = {"role": "tool", "content": "1"}
    entry = llama_factory_entry(_form({"messages": [*ASKED, *SAID, told, *SAID], "tools": "[]"}))
    assert (entry["formatting"], entry["columns"]["tools"]) == ("sharegpt", "tools")
    assert entry["tags"] == {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "observation_tag": "tool",
        "function_tag": "function_call",
        "system_tag": "system",
    }
    assert llama_factory_entry(_form(FURTHER["bots"]))["tags"]["assistant_tag"] == "bot"
    two = [*ASKED, {"role": "bot", "content": "b"}, *ASKED, *SAID]
    assert llama_factory_entry(_form({"messages": two})) == {}  # one tag names one of them
    assert llama_factory_entry(_form({"messages": [{"role": "critic", "content": "c"}, *ASKED, *SAID]})) == {}


def test_axolotl_is_told_what_speakers_are_called_and_which_turns_are_learned() -> None:
    bots = yaml.safe_load(axolotl_settings(_form({"conversations": [SPOKEN[0], {"from": "bot", "value": "b"}]})))
    assert bots["datasets"][0]["roles"] == {"assistant": ["assistant", "bot"], "user": ["user", "human"]}
    assert "roles" not in axolotl_settings(_form(FORMS["sharegpt"]))  # which it knows
    (pairs,) = yaml.safe_load(axolotl_settings(_form(FORMS["pairs of messages"])))["datasets"]
    assert pairs["roles"] == {
        "user": ["user", "human"],
        "assistant": ["assistant", "gpt"],
        "system": ["system"],
        "tool": ["tool"],
    }
    assert pairs["message_property_mappings"] == {"role": "from", "content": "value"}
    (turns,) = yaml.safe_load(axolotl_settings(_form(FURTHER["untrained"])))["datasets"]
    assert turns["message_field_training"] == "train"
    assert "message_field_training" not in axolotl_settings(_form(FORMS["messages"]))


def test_settings_of_axolotl_leave_nothing_out() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "chosen": "b", "rejected": "c", "system": "s"},
        {"instruction": "a", "input": "x", "chosen": "b", "rejected": "c"},
        {"question": "a", "answer": "b", "history": [["c", "d"]]},
        {"messages": [*ASKED, *SAID], "context": "c"},
        {"question": "a", "answer": "b", "tools": "[]"},
        {"messages": [*ASKED, *SAID], "system_prompt": "s"},
        {"conversations": [SPOKEN[0], {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}]},
    ]
    for row in rows:
        assert axolotl_settings(_form(row)) == "", row


def test_rows_that_llama_factory_leaves_out_are_counted() -> None:
    odd = [*ASKED, *ASKED, *SAID]
    call = {"role": "assistant", "content": "c"}
    results = [*ASKED, call, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, *SAID]
    system = [{"role": "system", "content": "s"}, *ASKED, *SAID]
    assert (
        _form(*({"messages": each} for each in (odd, results, system, [*ASKED, *SAID], ASKED + SAID + ASKED))).irregular
        == 2
    )
    assert "leaves out rows whose turns do not alternate" in training_section(_form({"messages": odd}))
    assert "leaves out rows" not in training_section(_form({"messages": system}))


def test_what_trainers_make_of_turns_that_are_not_learned_is_said() -> None:
    section = training_section(_form(FURTHER["untrained"]))
    assert "assistant_only_loss=True" in section
    assert "takes no notice of `train`: `--write-as prompt_completion --fresh`" in section
    assert "with `mask_history: true` it learns the last answer alone" in section
    weighed = training_section(_form(FURTHER["untrained"]), curated=False)
    assert "takes no notice of `train`." in weighed
    assert "--write-as" not in weighed  # which that command does not take
    plain = training_section(_form(FORMS["messages"]))
    assert "assistant_only_loss=True" in plain
    assert "no notice" not in plain
    assert "assistant_only_loss" not in training_section(_form(FORMS["question"]))
    assert "mask_history: true\n" in training_section(_form(FURTHER["history"]))


def test_messages_of_json_are_written_in_another_form_and_not_as_text() -> None:
    rows = [{"messages": [*ASKED, {**SAID[0], **more}]} for more in ({}, {"weight": 1})]
    examples = read(rows).examples
    section = training_section(written_form(examples, examples.table))
    assert "`--write-as sharegpt --nested text --fresh` writes text in their place" in section


def test_columns_of_json_are_said_to_need_a_newer_datasets() -> None:
    rows = [{"question": "a", "answer": "b", "note": note} for note in ({"a": 1}, {"b": 1})]
    for nested, said in (("input", True), ("text", False)):
        loaded = read(rows)
        table = loaded.examples.table
        if nested == "text":
            table = table.set_column(2, "note", pa.array(["{}", "{}"]))
        assert ("`--nested text --fresh`" in training_section(written_form(loaded.examples, table))) is said


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
