"""Columns of JSON, from any input to any output: the same objects, whatever keys they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augmenters import Duplicate
from curate.clusterers import KMeans
from curate.data.json_columns import json_faults, plain_text
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from scorers import Length


def turns(k: int) -> list[dict[str, Any]]:
    call = {"tool_calls": [{"function": {"name": "add", "arguments": {"a": k}}}]} if k % 3 == 0 else {}
    return [{"role": "user", "content": f"q{k}"}, {"role": "assistant", "content": "a" * (k + 1), **call}]


ROWS = [{"messages": turns(k), "meta": {"n": k} if k % 2 else {"m": None}, "level": k or "none"} for k in range(12)]
OBJECTS = ["messages", "meta", "level"]


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def inputs(folder: Path) -> Iterator[tuple[str, Any]]:
    """The same rows in every kind of input."""
    path = written(folder, ROWS)
    yield "file", path
    table = read(path).examples.table
    yield "table", table
    pq.write_table(table, folder / "d.parquet")
    yield "file", folder / "d.parquet"
    with pa.ipc.new_file(str(folder / "d.arrow"), table.schema) as writer:
        writer.write_table(table)
    yield "file", folder / "d.arrow"
    yield "pandas", pd.DataFrame(ROWS)
    dataset = datasets.Dataset.from_list(ROWS, on_mixed_types="use_json")
    yield "dataset", dataset
    yield "dataset_dict", datasets.DatasetDict({"train": dataset})
    dataset.save_to_disk(str(folder / "saved"))
    yield "dataset of a folder", folder / "saved"


def rows_of(data: Any) -> list[dict[str, Any]]:
    """Rows of a result in kind, objects opened."""
    if isinstance(data, pd.DataFrame):
        return data.to_dict("records")
    return list(datasets.Dataset(data) if isinstance(data, pa.Table) else data)


def test_every_input_gives_the_same_examples_and_gets_its_objects_back(tmp_path: Path) -> None:
    expected = read(written(tmp_path, ROWS)).examples
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(n_clusters=2), augmenters=(Duplicate(times=1),))
    for number, (kind, data) in enumerate(inputs(tmp_path)):
        curated = pipeline.run(data)
        examples = curated.loaded.examples
        assert curated.loaded.kind == kind or kind == "dataset of a folder"
        assert examples.shape == "messages"
        assert examples.ids.equals(expected.ids)
        if not kind.startswith("dataset"):  # which has written the texts anew, without blanks
            assert examples.fingerprint() == expected.fingerprint()
        assert examples.table.schema.types == [pa.list_(pa.json_()), pa.json_(), pa.json_()]
        place = {each: row for row, each in enumerate(examples.ids.to_pylist())}
        handed = rows_of(curated.dataset["train"] if kind == "dataset_dict" else curated.dataset)
        out = curated.write(tmp_path / f"out{number}")
        loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
        for found in (handed, list(loaded)):
            assert len(found) == 18
            for row in found:
                source = ROWS[place[row["source_id"]]]
                assert {name: row[name] for name in OBJECTS} == source
        again = read(out, allow_curated=True)
        assert again.examples.shape == "messages"
        assert set(again.examples.ids.to_pylist()) >= set(expected.ids.to_pylist())


def test_turns_of_json_are_those_of_objects(tmp_path: Path) -> None:
    """Ids and texts depend on what is said, not on how messages are stored."""
    plain = [{"messages": [{"role": turn["role"], "content": turn["content"]} for turn in turns(k)]} for k in range(12)]
    rows = [{"messages": [{**turn, f"key{k}": 1} for turn in row["messages"]]} for k, row in enumerate(plain)]
    loaded, expected = read(written(tmp_path, rows)), read(pa.Table.from_pylist(plain))
    assert pa.types.is_struct(expected.examples.table["messages"].type.value_type)
    assert loaded.examples.ids.equals(expected.examples.ids)
    assert loaded.examples.texts("messages", 0, 12) == expected.examples.texts("messages", 0, 12)
    said = [[{"from": "human", "value": f"q{k}"}, {"from": "gpt", "value": "a"}] for k in range(3)]
    said[0][1]["weight"] = "1"
    sharegpt = [{"conversations": each} for each in said]
    texts = read(written(tmp_path, sharegpt)).examples.texts("messages", 1, 2)
    assert texts == [[{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a"}]]


def test_whole_conversations_and_texts_as_json(tmp_path: Path) -> None:
    table = pa.table({"messages": pa.array([json.dumps(turns(k)) for k in range(3)], pa.json_())})
    loaded = read(table)
    assert loaded.examples.table["messages"].type == pa.list_(pa.json_())
    assert loaded.examples.texts("messages", 2, 3)[0][1]["content"] == "aaa"
    table = pa.table({"prompt": pa.array(['"p"', '"q"'], pa.json_()), "completion": ["a", "b"]})
    assert read(table).examples.texts("prompt", 0, 2) == ["p", "q"]


def test_content_that_is_neither_text_nor_parts_is_a_bad_row(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "x"}]
    said: list[Any] = [parts, 7, "q"]
    rows = [{"messages": [{"role": "user", "content": said[k]}, turns(k)[1]]} for k in range(3)]
    rows = [{"messages": [{"role": t["role"], "content": t["content"]} for t in row["messages"]]} for row in rows]
    path = written(tmp_path, rows)
    with pytest.raises(InputError, match=r"row 1 .*column 'messages' has a message that holds a number, 7, not text"):
        read(path)
    loaded = read(path, on_bad_row="drop")
    assert loaded.rows.tolist() == [0, 2]
    assert [turns[0]["content"] for turns in loaded.examples.texts("messages", 0, 2)] == ["x", "q"]
    assert rows_of(loaded.examples.table) == [rows[0], rows[2]]
    assert json.loads(loaded.rejected[0]["content"])["messages"]


def test_cells_that_are_no_text_are_bad_rows_wherever_they_stand(tmp_path: Path) -> None:
    for cells in ((1, "a", "b"), ("a", {"x": 1}, "b"), ("a", "b", [1])):
        path = written(tmp_path, [{"text": cell} for cell in cells])
        bad = next(row for row, cell in enumerate(cells) if not isinstance(cell, str))
        with pytest.raises(InputError, match=f"row {bad} .*column 'text' holds .*, not text; .*--on-bad-row drop"):
            read(path)
        loaded = read(path, on_bad_row="drop")
        assert loaded.examples.table["text"].to_pylist() == [cell for cell in cells if isinstance(cell, str)]
        assert loaded.examples.table["text"].type == pa.string()
    with pytest.raises(InputError, match="column 'text' holds JSON, not text"):
        read(written(tmp_path, [{"text": {"a": 1}}, {"text": {"b": 1}}]))


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ('{"role": "assistant", "content": "a", "n": NaN}', "holds NaN, which JSON has not"),
        ('{"role": "assistant", "content": "a", "n": 18446744073709551616}', "does not fit 64 bits"),
        ('{"role": "assistant", "content": "\\ud800", "n": 1}', "is not valid UTF-8"),
        ('{"role": "assistant", "n": 1}', "has a message without content"),
        ('{"content": "a", "n": 1}', "has a message without a role"),
        ('{"role": "assistant", "content": null, "n": 1}', "has a message without content"),
        ("null", "has a message without a role"),
    ],
)
def test_messages_at_fault_are_bad_rows(turn: str, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path, [{"messages": turns(0)}])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "user", "content": "q"}, ' + turn + "]}\n")
    with pytest.raises(InputError, match=f"row 1 .*{reason}"):
        read(path)
    assert read(path, on_bad_row="drop").rows.tolist() == [0]


def test_digits_that_datasets_would_change_make_other_columns_text_but_no_bad_rows(tmp_path: Path) -> None:
    first = {"messages": [turns(1)[0], {**turns(1)[1], "x": 0.5}], "meta": {"x": 0.5}}
    path = written(tmp_path, [first, {"messages": turns(2), "meta": {}}])
    path.write_text(path.read_text().replace("0.5", "0.12345678901234567"))
    loaded = read(path)
    assert loaded.examples.table["messages"].type == pa.list_(pa.json_())
    assert loaded.examples.table["meta"].to_pylist() == ['{"x": 0.12345678901234567}', "{}"]
    assert loaded.examples.table["meta"].type == pa.string()
    note = next(note for note in loaded.notes if "'meta'" in note)
    assert note.endswith("as JSON, row 0 holds 0.12345678901234567, whose last digits `datasets` would change")


def test_json_that_is_none() -> None:
    table = pa.table({"text": ["a", "b"], "meta": pa.array(["{}", "{1"], pa.json_())})
    loaded = read(table)
    assert loaded.examples.table["meta"].type == pa.string()
    assert "column 'meta' is kept as text: as JSON, row 1 is not JSON" in loaded.notes[-1]
    messages = pa.table({"messages": pa.array([json.dumps(turns(0)), "[1,", "3"], pa.json_())})
    with pytest.raises(InputError, match=r"row 1 .*column 'messages' is not JSON .*1 more bad row"):
        read(messages)
    assert read(messages, on_bad_row="drop").rows.tolist() == [0]


def test_filters_compare_what_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    assert read(path, where="level=none").rows.tolist() == [0]
    assert read(path, where="level=7").rows.tolist() == [7]
    cells = pa.array(['"a b"', "1.50", "null", None, '{"a": 1}'], pa.json_())
    assert plain_text(pa.chunked_array([cells])).to_pylist() == ["a b", "1.50", None, None, '{"a": 1}']


def test_faults_are_found_at_any_depth() -> None:
    leaf = pa.array(["1", "NaN", "{}", "nope"], pa.json_())
    column = pa.StructArray.from_arrays([pa.ListArray.from_arrays(pa.array([0, 1, 1, 3, 4], pa.int32()), leaf)], ["a"])
    found = json_faults(pa.chunked_array([column.slice(0, 2), column.slice(2)]))
    assert found.keys() == {2, 3}
    assert "NaN" in found[2]
    assert "not JSON" in found[3]


def test_a_sample_and_a_selection_keep_the_type(tmp_path: Path) -> None:
    examples = read(written(tmp_path, ROWS), limit=5).examples
    taken = examples.take(np.array([4, 0, 2]))
    assert taken.table.schema == examples.table.schema
    assert taken.table["meta"].to_pylist() == [examples.table["meta"][k].as_py() for k in (4, 0, 2)]
