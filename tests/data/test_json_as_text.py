"""JSON as text where a reader lacks the type, and conversations that come as text."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from curate.data.json_as_text import as_json, as_text, json_columns, json_texts, with_conversations_opened
from curate.data.json_values import JSON, column_of
from curate.data.readers import read
from curate.data.writers import hand_back, write_parquet_shards, written_tables
from tests.fixtures.tables import fails

CHATS = [
    [{"role": "user", "content": f"q {k}"}, {"role": "assistant", "content": f"a {k}", "tool_calls": [{"n": k}]}]
    for k in range(3)
]


def test_texts_keep_the_characters_of_json() -> None:
    odd = '{"b":1.50, "a": [ 1e400,"\\u00e9"]}'
    inner = pa.ExtensionArray.from_storage(JSON, pa.array([odd, None, "null", "1"]))
    plain = pa.array([1, None, 3, 4])
    rows = pa.StructArray.from_arrays([inner, plain], ["x", 'a"b'], mask=pa.array([False, False, False, True]))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, None, 2, 4]), rows)
    found = json_texts(lists)
    assert found[0] == f'[{{"x": {odd}, "a\\"b": 1}}]'
    assert [None if text is None else json.loads(text) for text in found[1:]] == [
        [{"x": None, 'a"b': None}],
        None,
        [{"x": None, 'a"b': 3}, None],
    ]
    assert json_texts(lists.slice(2)) == found[2:]
    assert json_texts(pa.array([{}, None], pa.struct([]))) == ["{}", None]
    assert json_texts(pa.array([], pa.list_(pa.int64()))) == []


def test_only_json_becomes_text_where_json_has_no_value() -> None:
    when = pa.array([datetime.datetime(2026, 1, 1)] * 2)
    mixed, _ = column_of("x", [{"a": 1}, {"b": 2}])
    table = pa.table({"both": pa.StructArray.from_arrays([when, mixed.chunk(0)], ["when", "x"]), "x": mixed})
    assert json_columns(table) == ["both", "x"]
    found = as_text(table, json_columns(table))
    assert found.schema.field("both").type.field("x").type == pa.string()
    assert found["both"].to_pylist()[1] == {"when": datetime.datetime(2026, 1, 1), "x": '{"b": 2}'}
    assert found["x"].to_pylist() == ['{"a": 1}', '{"b": 2}']


def test_datasets_opens_the_text_whatever_it_knew_of_the_column(tmp_path: Path) -> None:
    """Features that came with a Dataset would make it open the text as Json."""
    table = read(
        [{"prompt": "p", "completion": "c", "meta": {"a" * k: k}, "label": k % 2} for k in range(3)]
    ).examples.table
    dataset = datasets.Dataset(table).cast_column("label", datasets.ClassLabel(names=["x", "y"]))
    loaded = read(dataset, nested="text")
    extra = pa.table({"copy": pa.array([0, 0, 0], pa.int32())})
    (tmp_path / "out").mkdir()
    write_parquet_shards(written_tables(loaded), np.arange(3), extra, tmp_path / "out")
    found = datasets.load_dataset("parquet", data_files=str(tmp_path / "out" / "*"), cache_dir=tmp_path / "c")["train"]
    assert found["meta"][:] == ['{"": 0}', '{"a": 1}', '{"aa": 2}']
    assert found.features["label"].names == ["x", "y"]
    assert hand_back(loaded, np.arange(3), extra).features["meta"].dtype in ("string", "large_string")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "list of texts"])
def test_conversations_as_text_are_read_and_stay_as_they_came(kind: str, tmp_path: Path) -> None:
    texts = [json.dumps(chat, separators=(",", " :  ")) for chat in CHATS]
    cells: Any = [[json.dumps(turn) for turn in chat] for chat in CHATS] if kind == "list of texts" else texts
    table = pa.table({"messages": cells, "n": [0, 1, 2]})
    data: Any = table
    if kind == "csv":
        data = tmp_path / "a.csv"
        quoted = ('"' + text.replace('"', '""') + f'",{k}' for k, text in enumerate(texts))
        data.write_text("messages,n\n" + "\n".join(quoted))
    elif kind == "jsonl":
        data = tmp_path / "a.jsonl"
        data.write_text("\n".join(json.dumps({"messages": text, "n": k}) for k, text in enumerate(texts)))
    loaded = read(data, where="n!=1")
    assert loaded.examples.shape == "messages"
    assert loaded.examples.ids.equals(read([{"messages": CHATS[k]} for k in (0, 2)]).examples.ids)
    assert [turn["content"] for turn in loaded.examples.texts("messages", 0, 1)[0]] == ["q 0", "a 0"]
    answer = [{"role": "assistant", "content": "new"}]
    new = pa.table({"messages": pa.array([answer])})
    found = written_tables(loaded, new)
    assert found[0]["messages"].to_pylist() == [cells[0], cells[2]]
    if kind != "list of texts":
        assert json.loads(found[1]["messages"][0].as_py()) == answer


def test_other_text_is_left_alone() -> None:
    chat = json.dumps(CHATS[0])
    for cells in (
        ["[1]", "[2]"],
        ["[not json"],
        [chat, "no list"],
        [chat, '[{"a": 1}]'],
        [None, ""],
        [b"[\xff"],
        ["[]"],
    ):
        array = pa.array(cells)
        array = array.view(pa.string()) if isinstance(cells[0], bytes) else array
        assert with_conversations_opened(pa.table({"x": array}))[1] == {}
    kept = read([{"messages": CHATS[0], "log": chat}]).examples.table
    assert kept["log"].to_pylist() == [chat]


def test_a_text_that_is_no_conversation_makes_its_row_unusable() -> None:
    rows = [{"messages": json.dumps(CHATS[k % 3])} for k in range(80)] + [{"messages": "[1, 2"}, {"messages": None}]
    fails("row 80 .* column 'messages' is not JSON .*1 more bad rows", rows)
    loaded = read(rows, on_bad_row="drop")
    assert [each["row"] for each in loaded.rejected] == [80, 81]
    assert written_tables(loaded)[0]["messages"].to_pylist() == [row["messages"] for row in rows[:80]]


def test_conversations_of_a_fixed_number_of_messages_are_read_and_keep_their_type() -> None:
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    rows = [[{"role": "user", "content": f"q {k}"}, {"role": "assistant", "content": f"a {k}"}] for k in range(3)]
    table = pa.table(
        {"messages": pa.array(rows, pa.list_(message, 2)), "pair": pa.array([[1, 2]] * 3, pa.list_(pa.int8(), 2))}
    )
    loaded = read(table)
    assert loaded.examples.texts("messages", 0, 3) == read([{"messages": row} for row in rows]).examples.texts(
        "messages", 0, 3
    )
    assert loaded.as_came["messages"].type == table.schema.field("messages").type
    assert loaded.examples.table.schema.field("pair").type == table.schema.field("pair").type


def test_objects_become_json_beside_json() -> None:
    rows = [[{"a": 1, "b": None}, {"a": 2, "b": "x"}], None, []]
    array = pa.array([[], *rows]).slice(1)
    kind = pa.large_list(JSON)
    found = as_json(array, kind)
    found.validate(full=True)
    assert found.type == kind
    assert json_texts(found) == ['[{"a": 1, "b": null}, {"a": 2, "b": "x"}]', None, "[]"]
