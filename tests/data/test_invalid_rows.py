"""Rows that cannot be used are an error, or are left out and recorded."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.errors import InputError
from tests.fixtures.tables import TABLE, fails

# --- unusable rows ---------------------------------------------------------------------------------------------


def not_utf8(texts: list[bytes]) -> pa.Array:
    raw = pa.array(texts, pa.binary())
    return pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:])


TURN = {"role": "assistant", "content": "r"}
ROLES = ["user", "assistant", "assistant", "gpt"]
TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


BAD_ROWS = [
    (pa.table({"question": list("abcd"), "answer": ["1", None, "", None]}), 1, "column 'answer' is null", [1, 3]),
    (pa.table({"question": ["a", None, "c"], "answer": ["1", None, "3"]}), 1, "column 'question' is null", [1]),
    (pa.table({"text": not_utf8([b"ok", b"\xff", b"\xc3\xa9", b"\xc3"])}), 1, "'text' is not valid UTF-8", [1, 3]),
    (pa.table({"text": list("ab"), "source": not_utf8([b"ok", b"\xff"])}), 1, "'source' is not valid UTF-8", [1]),
    (pa.table({"messages": [[TURN], [], None, [TURN]]}), 1, "'messages' has no messages", [1, 2]),
    (pa.table({"messages": [[TURN], [{**TURN, "role": None}, TURN]]}), 1, "has a message without a role", [1]),
    (pa.table({"messages": [[TURN], [TURN, {**TURN, "content": None}]]}), 1, "has a message without content", [1]),
    (pa.table({"messages": [[{**TURN, "role": "user"}], [TURN]]}), 0, "has no assistant turn", [0]),
    (pa.table({"messages": [[None], [TURN]]}), 0, "has a message without a role", [0]),
    (
        pa.table({"prompt": [[{**TURN, "role": "user"}]] * 2, "completion": [[TURN], [{**TURN, "role": "tool"}]]}),
        1,
        "'completion' has no assistant turn",
        [1],
    ),
]


@pytest.mark.parametrize(("table", "first", "reason", "bad"), BAD_ROWS)
def test_bad_rows_are_an_error_or_are_recorded(table: pa.Table, first: int, reason: str, bad: list[int]) -> None:
    more = rf" \({len(bad) - 1} more bad rows\)" if len(bad) > 1 else ""
    fails(rf"row {first} \(counted from 0.*\): .*{reason}{more}.*--on-bad-row drop", table)
    loaded = read(table, on_bad_row="drop")
    kept = [row for row in range(len(table)) if row not in bad]
    assert loaded.rows.tolist() == kept
    assert loaded.examples.table.equals(table.take(kept))
    assert [record["row"] for record in loaded.rejected] == bad
    assert reason in loaded.rejected[0]["reason"]
    for record in loaded.rejected:
        assert set(record) == {"row", "example_id", "stage", "reason", "content"}
        assert (record["stage"], record["example_id"]) == ("read", None)
        assert len(record["content"]) < 1000
        json.loads(record["content"])


def outcome(table: pa.Table) -> Any:
    """What comes of a table: its ids and notes, or the error."""
    try:
        loaded = read(table)
    except InputError as error:
        return str(error)
    return loaded.examples.ids.to_pylist(), loaded.notes, loaded.rejected


def test_a_quick_look_and_a_search_for_faults_agree() -> None:
    """Ordinary tables are searched only where the quick look finds something; beside a column of dates all are."""
    draw = random.Random(0)
    found = []
    for _ in range(300):
        texts = [*"abc", *draw.choices(["", None, "d"], [8, 1, 8], k=2)]
        turns = [
            {"role": role, "content": draw.choice(texts)} for role in [*ROLES, *draw.choices([None, "tool"], [1, 5])]
        ]
        size = draw.randint(1, 3)
        rows = [
            draw.choice([None, []]) if draw.random() < 0.1 else draw.choices(turns, k=draw.randint(1, 3))
            for _ in range(size)
        ]
        for table in (
            pa.table({"messages": pa.array(rows, TURNS)}),
            pa.table({"prompt": pa.array(rows, TURNS), "completion": pa.array([[TURN]] * size, TURNS)}),
            pa.table({"prompt": draw.choices(texts, k=size), "completion": draw.choices(texts, k=size)}),
        ):
            plain = outcome(table)
            assert plain == outcome(table.append_column("day", pa.nulls(size, pa.date32())))
            found.append(isinstance(plain, str))
    assert 200 < sum(found) < 700


def test_a_clean_chunk_after_a_bad_one_and_row_numbers_under_a_filter() -> None:
    table = pa.concat_tables([TABLE, TABLE.set_column(1, "answer", pa.array(["x"] * 9 + [None] + ["x"] * 2))])
    fails("row 21 ", table, where="level=0")
    assert read(table, where="level=0", on_bad_row="drop").rejected[0]["row"] == 21


def test_null_input_of_an_instruction_and_empty_strings_are_fine() -> None:
    table = pa.table({"instruction": ["a", ""], "input": [None, "x"], "output": ["", "y"]})
    assert len(read(table).examples) == 2


def test_nothing_usable() -> None:
    fails("no usable row is left", pa.table({"text": pa.nulls(3, pa.string())}), on_bad_row="drop")


def test_answers_that_are_only_in_final_answer() -> None:
    table = pa.table({"question": ["a", "b"], "answer": pa.nulls(2, pa.string()), "final_answer": ["1", "2"]})
    fails("'answer' is null in every row; .* pass --columns completion=final_answer$", table)
    fails("--columns completion=final_answer$", table, on_bad_row="drop")
    assert read(table, columns="completion=final_answer").examples.texts("completion", 0, 2) == ["1", "2"]
    some = table.set_column(1, "answer", pa.array(["x", None]))
    fails("row 1 .*--on-bad-row drop, or .*--columns completion=final_answer$", some)


def test_cells_that_are_not_text_in_a_column_of_text(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "1", "n": 1}, {"question": "b", "answer": 2.5, "n": 2}, {"question": "c"}]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    frame = pd.DataFrame(rows)
    for data in (path, frame):
        fails("row 1 .*column 'answer' holds a number, 2.5, not text \\(1 more bad rows\\)", data)
        loaded = read(data, on_bad_row="drop")
        assert loaded.examples.texts("answer" if "answer" in loaded.examples.columns else "completion", 0, 1) == ["1"]
        assert [record["row"] for record in loaded.rejected] == [1, 2]


def test_labels_of_several_kinds_are_kept_but_are_no_labels() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "source": ["x", 1], "n": [1, {"a": 2}]})
    loaded = read(frame)
    assert loaded.examples.columns == {"text": "text"}
    assert loaded.examples.table["source"].to_pylist() == ['"x"', "1"]
    assert loaded.examples.table["n"].to_pylist() == ["1", '{"a": 2}']
    fails("column 'source' holds values of several kinds, so it cannot be source", frame, columns="source=source")
    assert read(frame, where="source=1").rows.tolist() == [1]
    assert read(frame, where="source=x").rows.tolist() == [0]


# --- columns and emptiness -------------------------------------------------------------------------------------


def test_copies_of_data_curated_before_are_refused() -> None:
    n = TABLE.num_rows
    curated = TABLE
    for name, cells in (
        ("example_id", [f"x{k}" for k in range(n)]),
        ("source_id", ["x"] * n),
        ("origin", ["input"] * n),
    ):
        curated = curated.append_column(name, pa.array(cells))
    curated = curated.append_column("copy", pa.array([0] * (n - 1) + [1]))
    fails(
        rf"was curated before, and 1 of its {n} rows are copies; leave them out with --where 'level!=9,copy=0'",
        curated,
        where="level!=9",
    )
    loaded = read(curated, where="level!=9,copy=0")
    assert loaded.examples.ids.to_pylist() == curated["example_id"].to_pylist()[: n - 1]
    assert loaded.renamed["example_id"] == "input_example_id"
