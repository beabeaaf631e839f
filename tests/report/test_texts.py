"""The examples that the report shows: the extremes, with their own text and place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.report.run_page import write_report
from curate.report.texts import extremes, first_words, rejections
from tests.fixtures.reports import Page, page_of, rewrite, rewrite_run, rows_of


def test_the_shown_examples_are_the_extremes_with_their_own_text(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    easiest, hardest, flat, _ = extremes(finished, rows)
    order = np.argsort(np.where(rows.valid, rows.difficulty, np.nan), kind="stable")[: rows.valid.sum()]
    assert [example.identity for example in easiest] == rows.ids.take(pa.array(order[:20])).to_pylist()
    assert [example.identity for example in hardest] == rows.ids.take(pa.array(order[:-21:-1])).to_pylist()
    for example in (*easiest, *hardest):
        number = int(example.identity.removeprefix("row-"))
        if example.copies == 0:
            assert example.fields == ()
        else:
            assert [field.label for field in example.fields] == ["prompt", "completion"]
            assert example.fields[0].text.startswith(f"Question {number}:")
            assert example.fields[1].text.endswith(f"#### {number - number // 3}")
        assert example.source == f"source {number % 4}"
    assert {example.copies for example in hardest} == {2}
    assert sum(example.copies == 0 for example in easiest) == 1
    assert rows.noise_suspect is not None
    suspects = rows.ids.take(pa.array([row for row in order[::-1] if rows.noise_suspect[row]])).to_pylist()
    assert [flat[0].identity, flat[-1].identity] == [suspects[0], suspects[-1]]
    assert len({example.identity for example in flat}) == len(flat) == 10
    assert all(example.suspect and example.fields for example in flat)
    assert "because the row was left out" in page_of(finished_run).text


def test_hard_rows_that_are_not_reducible_are_to_be_read_first_where_many_are_wrong(run_copy: Path) -> None:
    split = run_copy / "tables" / "split.parquet"

    def thirds(table: pa.Table) -> pa.Table:
        return table.append_column("reducible", pa.array([k % 3 > 0 for k in range(len(table))]))

    rewrite(split, thirds)
    about = {"verdict": "estimated", "reason": "", "wrong_share": 0.3}
    for interval, listed in (([0.05, 0.4], False), ([0.06, 0.4], True)):
        rewrite_run(run_copy, lambda run, i=interval: run["diagnostics"].update(reducible={**about, "interval": i}))
        finished, rows = rows_of(run_copy)
        flat, first = extremes(finished, rows)[2:]
        assert bool(first) == listed
        assert bool(flat) != listed
        doubtful = rows.ids.filter(pa.array(rows.hard & ~rows.reducible)).to_pylist()
        assert {example.identity for example in first} <= set(doubtful)
        write_report(run_copy)
        page = page_of(run_copy).text
        assert ("to be read first" in page) == listed
        assert "30.0" in page


def test_message_lists_are_shown_turn_by_turn(run_copy: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]
    for path in (run_copy / "data").iterdir():
        rewrite(path, lambda table: table.append_column("messages", pa.array([turns] * len(table))))
    rewrite_run(run_copy, lambda run: run["data"].update(columns={"messages": "messages"}))
    example = extremes(*rows_of(run_copy))[1][0]
    assert [(field.label, field.text) for field in example.fields] == [
        ("user", "Hi"),
        ("assistant", "Hello there"),
    ]


def test_rejected_rows_are_counted_by_reason(finished_run: Path) -> None:
    found = rejections(rows_of(finished_run)[0], most=30, examples=3)
    assert not isinstance(found, str)
    assert [(group.reason, group.stage, group.rows, len(group.examples)) for group in found[0]] == [
        ("completion is empty", "read", 5, 3),
        ("prompt is not text", "read", 2, 2),
    ]
    assert found[0][1].examples[0][:2] == (5, "bad-5")
    assert json.loads(found[0][1].examples[0][2].text) == {"question": "q 5"}
    assert found[1] == 2


def test_a_huge_cell_is_cut_with_a_note(run_copy: Path) -> None:
    hardest = extremes(*rows_of(run_copy))[1][0]

    def grow(table: pa.Table) -> pa.Table:
        cells = [
            ("x" * 10_000_000 if identity == hardest.identity else text)
            for identity, text in zip(table["example_id"].to_pylist(), table["question"].to_pylist(), strict=True)
        ]
        return table.set_column(table.schema.get_field_index("question"), "question", [cells])

    for path in (run_copy / "data").iterdir():
        rewrite(path, grow)
    path = write_report(run_copy)
    assert path.stat().st_size < 8_000_000
    page = Page(path.read_text())
    assert "Cut: the first 2,000 characters of 10.0 MB." in page.text
    assert max(len(word) for word in page.text.split()) <= 2_000


def test_words_are_those_of_the_row(finished_run: Path) -> None:
    finished, rows = rows_of(finished_run)
    data = pq.read_table(finished_run / "data").to_pylist()
    column = finished.run["data"]["columns"]["prompt"]
    texts = {row["source_id"]: row[column] for row in data}
    positions = np.array([0, 7, 390])
    found = first_words(finished, rows, positions)
    for position, text in zip(positions.tolist(), found, strict=True):
        whole = texts.get(rows.ids[position].as_py())
        assert text == ("" if whole is None else whole)
    assert any(found)
