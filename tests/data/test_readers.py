"""Reading: every kind of input gives the same Examples, and every fault an error with a remedy."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data.readers import Loaded, read
from curate.errors import DataWarning, InputError
from tests import ROOT
from tests.fixtures.tables import ROWS, TABLE, fails, write

SHARED = Path(os.environ.get("CURATE_SHARED_DATA", ROOT.parent / "shared" / "data"))


def values(loaded: Loaded) -> list[Any]:
    return loaded.examples.table.to_pylist()


# --- every kind of input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["d.parquet", "d.jsonl", "d.json", "d.csv", "d.arrow", "d.ipc", "d.jsonl.gz"])
def test_every_file_format_gives_the_same_examples(name: str, tmp_path: Path) -> None:
    loaded = read(str(write(tmp_path / name)))
    expected = read(TABLE)
    assert values(loaded) == ROWS
    assert loaded.examples.ids.equals(expected.examples.ids)
    assert loaded.examples.fingerprint() == expected.examples.fingerprint()
    assert loaded.examples.table_fingerprint() == expected.examples.table_fingerprint()
    assert (loaded.kind, loaded.rows_read, loaded.rejected) == ("file", 12, [])
    assert loaded.rows.tolist() == list(range(12))
    assert loaded.notes[-1] == "shape question_answer: prompt=question, completion=answer, source=source"


def test_every_object_in_memory_gives_the_same_examples() -> None:
    expected = read(TABLE).examples
    dataset = datasets.Dataset.from_list(ROWS)
    shuffled_back = dataset.select(range(11, -1, -1)).select(range(11, -1, -1))
    inputs = {
        "pandas": pd.DataFrame(ROWS, index=[f"r{k}" for k in range(12)]),
        "dataset": shuffled_back,
        "dataset_dict": datasets.DatasetDict({"test": dataset.select([0]), "train": dataset}),
    }
    for kind, data in inputs.items():
        loaded = read(data)
        assert loaded.kind == kind
        assert loaded.original is data
        assert loaded.examples.ids.equals(expected.ids)
        assert loaded.examples.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_string_types_are_kept_through_filter_limit_and_drop(kind: pa.DataType) -> None:
    table = pa.table({name: TABLE[name].cast(kind) if name != "level" else TABLE[name] for name in TABLE.column_names})
    table = table.set_column(1, "answer", pa.array([None, *TABLE["answer"].to_pylist()[1:]]).cast(kind))
    loaded = read(table, where="source=a", on_bad_row="drop", limit=4)
    assert loaded.examples.table.schema.equals(table.schema)
    assert values(loaded) == [ROWS[k] for k in loaded.rows]
    assert loaded.rejected[0]["row"] == 0


def test_messages_in_json_lines(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]
    rows = [{"messages": turns, "n": 1}, {"messages": [{"role": "system", "content": "s", "name": "x"}, *turns]}]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    loaded = read(path)
    assert loaded.examples.shape == "messages"
    assert loaded.examples.texts("messages", 0, 1) == [turns]


def test_folders_in_order_of_names_and_schemas_joined(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", TABLE.slice(5))
    write(
        tmp_path / "a.parquet",
        TABLE.slice(0, 5).cast(pa.schema([*list(TABLE.schema)[:3], ("source", pa.large_string())])),
    )
    (tmp_path / "README.md").write_text("not data", encoding="utf-8")
    assert values(read(tmp_path)) == ROWS


def test_folder_of_a_finished_run_reads_its_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    curated = TABLE.append_column("example_id", pa.array([f"x{k}" for k in range(12)]))
    curated = curated.append_column("origin", pa.array(["original"] * 12))
    write(tmp_path / "data" / "train-00000-of-00001.parquet", curated)
    loaded = read(tmp_path, allow_curated=True)
    assert loaded.examples.ids.to_pylist()[:2] == ["x0", "x1"]
    again = read(tmp_path)  # no copies, so that it can be curated: its ids stay
    assert again.examples.ids.to_pylist() == loaded.examples.ids.to_pylist()
    assert again.renamed == {"example_id": "input_example_id", "origin": "input_origin"}


def test_folder_divided_into_splits_by_name(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001.parquet", TABLE.slice(0, 9))
    write(tmp_path / "test-00000-of-00001.parquet", TABLE.slice(9))
    loaded = read(tmp_path)
    assert len(loaded.examples) == 9
    assert loaded.notes[0] == "split train of train, test; --split takes another"
    assert len(read(tmp_path, split="test").examples) == 3
    fails("no split 'dev'; it has train, test: choose one with --split", tmp_path, split="dev")


def test_saved_datasets(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": dataset, "test": dataset.select([0])}).save_to_disk(str(tmp_path / "two"))
    assert values(read(tmp_path / "one")) == ROWS
    loaded = read(tmp_path / "two")
    assert values(loaded) == ROWS
    assert loaded.kind == "file"
    assert len(read(tmp_path / "two", split="test").examples) == 1


def test_features_of_a_dataset_survive_as_metadata() -> None:
    dataset = datasets.Dataset.from_list(ROWS).cast_column("level", datasets.ClassLabel(names=["x", "y", "z"]))
    table = read(dataset.filter(lambda row: row["level"] > 0)).examples.table
    assert datasets.Features.from_arrow_schema(table.schema)["level"].names == ["x", "y", "z"]


def test_text_that_looks_like_dates_or_numbers_stays_text(tmp_path: Path) -> None:
    rows = [{"id": "007", "question": "2020-01-01", "answer": "1.50", "day": "2020-01-02"}] * 2
    rows = [{**row, "id": f"00{k}"} for k, row in enumerate(rows)]
    table = pa.Table.from_pylist(rows)
    for name in ("d.csv", "d.jsonl"):
        loaded = read(write(tmp_path / name, table))
        assert values(loaded) == rows
        assert loaded.examples.ids.to_pylist() == ["000", "001"]
    named = pa.table({"q": ["1", "2"], "a": ["3", "4"]})
    assert values(read(write(tmp_path / "e.csv", named), columns="prompt=q,completion=a")) == named.to_pylist()


@pytest.mark.slow
def test_large_cells_and_byte_order_mark(tmp_path: Path) -> None:
    long = "x" * (20 << 20)
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"text": long}).encode() + b"\n" + json.dumps({"text": "y"}).encode())
    assert [len(text) for text in read(path).examples.texts("text", 0, 2)] == [20 << 20, 1]
    table = tmp_path / "big.csv"
    table.write_bytes(f"\ufefftext\n{long}\ny\n".encode())
    assert [len(text) for text in read(table).examples.texts("text", 0, 2)] == [20 << 20, 1]


# --- filters ---------------------------------------------------------------------------------------------------


def test_limit_is_a_seeded_sample_in_order() -> None:
    table = pa.table({"text": [str(k) for k in range(1000)]})
    loaded = read(table, limit=100)
    assert len(loaded.examples) == 100
    assert np.all(np.diff(loaded.rows) > 0)
    assert loaded.examples.texts("text", 0, 100) == [str(k) for k in loaded.rows]
    assert loaded.rows.max() > 800
    assert read(table, limit=100).rows.tolist() == loaded.rows.tolist()
    assert read(table, limit=100, seed=1).rows.tolist() != loaded.rows.tolist()
    assert read(table, limit=5000).rows.tolist() == list(range(1000))
    fails("limit is 0", table, limit=0)


def test_ids_do_not_change_with_the_limit() -> None:
    table = pa.table({"text": [str(k % 50) for k in range(200)]})
    whole, part = read(table), read(table, limit=60)
    assert part.examples.ids.to_pylist() == [whole.examples.ids[k].as_py() for k in part.rows]


def test_repeated_and_missing_columns_and_rows(tmp_path: Path) -> None:
    fails("two columns 'level'", TABLE.append_column("level", TABLE["level"]))
    fails("no rows", TABLE.slice(0, 0))
    fails("no rows", pa.table({}))
    empty = tmp_path / "e.jsonl"
    empty.write_text("\n", encoding="utf-8")
    fails("e.jsonl is empty", empty)
    fails("column names .* are not all strings", pd.DataFrame({0: ["a"], "text": ["b"]}))
    fails("unknown role", TABLE, columns={"promt": "question"})
    fails("on_bad_row is 'skip'", TABLE, on_bad_row="skip")


# --- real files ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of real data; set CURATE_SHARED_DATA to one")
def test_real_files_read_as_question_answer() -> None:
    paths = sorted(SHARED.glob("*.parquet"))
    assert paths
    for path in paths:
        schema = pq.read_schema(path)
        if not {"question", "answer", "final_answer", "id"} <= set(schema.names):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            loaded = read(path, columns="completion=final_answer", on_bad_row="drop")
        assert loaded.examples.shape == "question_answer"
        assert loaded.examples.columns["id"] == "id"
        assert loaded.rows_read == len(loaded.examples) + len(loaded.rejected)
        assert loaded.examples.table.schema.equals(schema)


@pytest.mark.parametrize("where", ["split=", "split=none", "other=x"])
def test_text_that_is_not_utf8_is_told_of_and_not_stumbled_over(where: str) -> None:
    """In the messages that quote a column: values that a condition does not meet, and names of splits."""
    raw = pa.array([b"\xff", b"train", b"te\xfest"], pa.binary()).view(pa.string())
    table = pa.table({"prompt": ["a", "b", "c"], "completion": ["d", "e", "f"], "split": raw, "other": raw})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="\ufffd"):
            read(table, where=where)
    with pytest.warns(DataWarning, match="\ufffd"), pytest.raises(InputError):
        read(table)


# --- how little an ordinary file needs ---------------------------------------------------------------------------

MOST_MODULES = 5
OF_MESSAGES = 3  # what a message says, and whether a type is JSON


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet", "messages.jsonl", "messages.parquet"])
def test_an_ordinary_file_passes_through_five_modules(name: str, tmp_path: Path) -> None:
    """The others are for what is unusual: JSON of several kinds, other types, rows at fault, hubs and frames.

    Conversations are read by modules of their own. What keeps memory small, in curate/storage, knows no rows.
    """
    most = MOST_MODULES
    table = TABLE.append_column("weight", pa.array([None, *np.linspace(0.5, 1, len(TABLE) - 1)]))
    if name.startswith("messages"):
        most += OF_MESSAGES
        turns = [[{"role": "user", "content": "p"}, {"role": "assistant", "content": str(k)}] for k in range(3)]
        table = pa.table({"messages": turns, "source": ["a", None, "b"]})
    path = write(tmp_path / name, table)
    entered: set[str] = set()

    def enter(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        where = code.co_filename
        inside = where.startswith(str(ROOT / "curate")) and not where.startswith(str(ROOT / "curate" / "storage"))
        if event == "call" and inside and code.co_name != "<module>":
            entered.add(where)

    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        loaded = read(path)
    finally:
        sys.setprofile(before)
    assert loaded.examples.table.num_rows == table.num_rows
    assert len(entered) <= most, sorted(entered)
