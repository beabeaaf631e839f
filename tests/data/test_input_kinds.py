"""The same rows, however they come in: the same ids, the same values, and JSON where the file has it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.data.json_as_text import json_texts
from curate.data.readers import read
from curate.data.writers import written_tables

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
# A column of floats whose last digits `datasets` would change is kept as text.
_FLOATS = st.integers(-(10**9), 10**9).map(lambda n: n / 1024)
_FLOATS = _FLOATS.filter(lambda value: datasets.Json().decode_example(json.dumps(value)) == value)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | _FLOATS | _TEXT
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2))
_META = st.dictionaries(st.sampled_from("abc"), _VALUES, max_size=3)
_CALL = st.fixed_dictionaries({"name": st.sampled_from(["add", "store"]), "arguments": _META})
_TURNS = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": _TEXT}, optional={"tool_calls": st.lists(_CALL, max_size=2)}
)
_CHATS = st.lists(_TURNS, min_size=1, max_size=3)


class Stream:
    """What polars and duckdb are to others: an object with an Arrow stream."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


def _kinds(rows: list[dict[str, Any]], folder: Path) -> Iterator[tuple[str, Any]]:
    """The rows as every kind of input, the file that is the measure first."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    yield "jsonl", folder / "rows.jsonl"
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-16")
    yield "json", folder / "rows.json"
    yield "glob", str(folder / "row?.jsonl")
    yield "list", rows
    names = list(rows[0])
    yield "dict", {name: [row[name] for row in rows] for name in names}
    yield "pandas", pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in names})
    table = read(folder / "rows.jsonl").examples.table
    yield "table", table
    yield "stream", Stream(table)
    yield "reader", table.to_reader()
    pq.write_table(table, folder / "rows.parquet")
    yield "parquet", folder / "rows.parquet"
    pf.write_feather(table, folder / "rows.feather")
    yield "feather", folder / "rows.feather"
    dataset = datasets.Dataset(table)
    yield "dataset", dataset
    yield "dataset_dict", datasets.DatasetDict({"train": dataset, "test": dataset})
    dataset.save_to_disk(folder / "saved")
    yield "saved", folder / "saved"


def _cells(table: pa.Table) -> dict[str, list[Any]]:
    """Cells as JSON has them."""
    return {
        name: [None if text is None else json.loads(text) for chunk in table[name].chunks for text in json_texts(chunk)]
        for name in table.column_names
    }


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries({"prompt": _TEXT.map("q".__add__), "completion": _TEXT, "meta": _META}),
        min_size=1,
        max_size=4,
    )
)
def test_metadata_of_different_keys_is_the_same_in_every_kind(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    _check(rows, tmp_path_factory.mktemp("kinds"))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.fixed_dictionaries({"messages": _CHATS, "number": st.integers(0, 9)}), min_size=1, max_size=4))
def test_conversations_are_the_same_in_every_kind(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    _check(rows, tmp_path_factory.mktemp("kinds"))


def _check(rows: list[dict[str, Any]], folder: Path) -> None:
    wanted = {name: [row[name] for row in rows] for name in rows[0]}
    ids = None
    for kind, data in _kinds(rows, folder):
        for nested in ("json", "text"):
            if kind == "reader" and nested == "text":
                continue  # a stream can be read once
            loaded = read(data, nested=nested)
            ids = ids or loaded.examples.ids
            assert loaded.examples.ids.equals(ids), kind
            (table,) = written_tables(loaded)
            assert _equal(_opened(table) if nested == "text" else _cells(table), wanted), (kind, nested)


def _opened(table: pa.Table) -> dict[str, list[Any]]:
    """Cells of a table without JSON, of whose columns of text those that are not prompt or completion are JSON text."""
    assert "arrow.json" not in str(table.schema)
    found = _cells(table)
    for name in ("meta", "messages"):
        if name in found and not pa.types.is_nested(table.schema.field(name).type):
            found[name] = [None if text is None else json.loads(text) for text in found[name]]
    return found


def _equal(found: Any, wanted: Any) -> bool:
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


@pytest.mark.parametrize("library", ["polars", "duckdb"])
def test_tables_of_other_libraries(library: str, tmp_path: Path) -> None:
    """With arrow.json in them, in columns and in lists, stored as these libraries store text."""
    other = pytest.importorskip(library)
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": f"a {k}", f"x{k}": k}], "n": k}
        for k in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = read(tmp_path / "rows.jsonl")
    pq.write_table(loaded.examples.table, tmp_path / "rows.parquet")
    path = str(tmp_path / "rows.parquet")
    data = other.read_parquet(path) if library == "polars" else other.sql(f"select * from '{path}'")
    found = read(data)
    assert found.examples.ids.equals(loaded.examples.ids)
    (table,) = written_tables(found)
    cells = _cells(table)["messages"]
    turns = [[json.loads(turn) if isinstance(turn, str) else turn for turn in chat] for chat in cells]
    assert turns == [row["messages"] for row in rows]
    assert library in sys.modules
