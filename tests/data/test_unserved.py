"""Data that cannot be curated is called what it is, with a next step that works."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.data.readers import read
from curate.errors import InputError
from tests.fixtures.tables import ROWS

Row = dict[str, Any]
TREE = {"role": "prompter", "text": "q", "replies": [{"role": "assistant", "text": "a", "replies": []}]}


@pytest.mark.parametrize(
    ("row", "kind", "remedy"),
    [
        (TREE, "trees of messages", "text=text"),
        ({"message_tree_id": "x", "prompt": TREE}, "trees of messages", None),
        ({"message_id": "b", "parent_id": "a", "role": "assistant", "Text": "a"}, "trees of messages", "text=Text"),
        ({"title": "t", "mapping": {"a": {"parent": None}, "b": {"parent": "a"}}}, "trees of messages", None),
        ({"prompt": "q", "answer_key": "4"}, "prompt-only data", "prompt=prompt,completion=answer_key"),
        ({"Question": "q", "Reference": "4", "n": 1}, "prompt-only data", "prompt=Question,completion=Reference"),
        (
            {"prompt": "q", "answer_id": "7", "llm_answer": "4"},
            "prompt-only data",
            "prompt=prompt,completion=llm_answer",
        ),
        (
            {"question": "q", "final_result": "4", "r1_solution": "s"},
            "prompt-only",
            "prompt=question,completion=r1_solution",
        ),
        ({"prompt": "q", "reward_model": {"style": "rule"}}, "prompt-only data", None),
        ({"prompt": [{"role": "user", "content": "q"}]}, "prompt-only data", None),
        ({"prompt": [{"role": "user", "content": "q"}], "ground_truth": "4"}, "prompt-only data", None),
        ({"messages": "[{'role': 'user', 'content': 'q'}]"}, "no JSON list of messages", None),
        ({"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}, "stepwise rewards", None),
        ({"question": "q", "label": {"steps": [{"rating": 1}]}}, "stepwise rewards", None),
        ({"prompt": "q", "completions": ["a", "b"]}, "several answers to each prompt", None),
        ({"instruction": "q", "responses": [{"text": "a", "score": 1}]}, "several answers to each instruction", None),
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, "multiple choice", None),
        ({"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"}, "multiple choice", None),
        ({"context": "c", "question": "q", "answers": {"text": ["a"], "start": [1]}}, "several answers to each", None),
        ({"question": "q", "solutions": ["a", "b"], "input_output": "{}"}, "several answers to each question", None),
        ({"prompt": "q", "response_0": "a", "response_1": "b", "better": 0}, "two answers that are compared", None),
        ({"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}, "two answers that are compared", None),
        (
            {"prompt": "q", "code_id": "x", "Gold_answer": "4"},
            "prompt-only data",
            "prompt=prompt,completion=Gold_answer",
        ),
        (
            {"input": {"messages": []}, "preferred_output": [{"role": "assistant", "content": "a"}]},
            "requests with",
            None,
        ),
        ({"input_ids": [1, 2], "labels": [-100, 2]}, "token ids", None),
        ({"segments": [{"label": False, "text": "<s>q"}, {"label": True, "text": "a</s>"}]}, "segments of text", None),
        ({"prompt_input_ids": [1], "chosen_input_ids": [2]}, "token ids", None),
        ({"translation": {"en": "Hello", "de": "Hallo"}}, "texts by language", None),
    ],
)
def test_kinds_of_data(row: Row, kind: str, remedy: str | None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    for data in (path, [row, row]):
        with pytest.raises(InputError, match=kind) as caught:
            read(data)
        assert "\n" not in str(caught.value)
    if remedy is None:
        assert "--columns" not in str(caught.value)
    else:
        assert str(caught.value).split("--columns ")[1].split()[0] == remedy
        assert len(read(path, columns=remedy).examples) == 2


@pytest.mark.parametrize("more", [{}, {"tool_calls": None}])
def test_conversations_without_any_answer_are_prompts(more: Row) -> None:
    rows = [{"messages": [{"role": "user", "content": f"q {k}"} | (more if k % 2 else {})]} for k in range(4)]
    for data in (rows, [{"messages": json.dumps(row["messages"])} for row in rows]):
        with pytest.raises(InputError, match=r"column .messages. holds .* prompt-only data"):
            read(data)
    with pytest.raises(InputError, match="or take column 'answer': --columns prompt=messages,completion=answer"):
        read([{**row, "answer": "a"} for row in rows])
    named = read([{**row, "answer": "a"} for row in rows], columns="prompt=messages,completion=answer")
    assert [turn["content"] for turn in named.examples.texts("messages", 1, 2)[0]] == ["q 1", "a"]
    answered = {"messages": [{"role": "assistant", "content": "a"}]}
    with pytest.raises(InputError, match=r"row 0 .* has no assistant turn .3 more bad rows"):
        read([*rows, answered])
    assert len(read([*rows, answered], on_bad_row="drop").examples) == 1


def test_several_answers_in_json_text_are_not_named_as_the_answer() -> None:
    with pytest.raises(InputError, match=r"--columns prompt=question,completion=COLUMN$"):
        read([{"question": "q", "solutions": '["a", "b"]'}])


def test_prompts_beside_answers_of_a_wrong_type_are_no_prompts_alone() -> None:
    with pytest.raises(InputError, match="column 'completion' holds int64, not text"):
        read([{"prompt": "q", "completion": 4}] * 2)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "t", "input_ids": [1, 2]},
        {"text": "t", "parent": "x"},
        {"prompt": "q", "completion": "a", "replies": 3},
        {"question": "q", "choices": ["a", "b"], "answer": "a"},
        {"text": "t", "comments": ["good", "bad"]},
    ],
)
def test_data_that_is_served_is_not_mistaken(row: Row) -> None:
    assert len(read([row, row]).examples) == 2


RECORDS = {f"p{k}": {"prompt": f"q {k}", "completion": f"a {k}"} for k in range(30)}
COLUMNS = {name: [row[name] for row in RECORDS.values()] for name in ("prompt", "completion")}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (RECORDS, "an object of 30 rows by id"),
        ({"version": 1, "data": [*RECORDS.values()]}, "an object with its rows in 'data'"),
        ({"train": [*RECORDS.values()], "test": [{"prompt": "q"}]}, "an object with its rows in 'train', 'test'"),
        (COLUMNS, "an object of columns"),
        ({name: dict(enumerate(cells)) for name, cells in COLUMNS.items()}, "an object of columns"),
        (
            {"columns": [*COLUMNS], "index": [*range(30)], "data": [[*row.values()] for row in RECORDS.values()]},
            "an object of column names and cells",
        ),
    ],
)
@pytest.mark.parametrize("name", ["rows with 'quotes'.json", "rows.json.gz"])
def test_objects_in_place_of_rows_say_how_to_make_a_list(content: Any, what: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    text = json.dumps(content, indent=1).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(InputError, match=what) as caught:
        read(path)
    message = str(caught.value)
    assert len(message) < 300
    command = message.split("make it one: ")[1].replace("python -c", f"{sys.executable} -c")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=60)
    made = read(tmp_path / "rows.json")
    assert made.examples.texts("completion", 0, 30) == [row["completion"] for row in RECORDS.values()]
    if content is RECORDS:
        assert made.examples.ids.to_pylist() == [*RECORDS]


def test_long_paths_leave_room_for_the_command(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    path = folder / "by_id.json"
    path.write_text(json.dumps(RECORDS))
    with pytest.raises(InputError, match=r"< by_id\.json > rows\.json") as caught:
        read(path)
    assert len(str(caught.value)) < 300


def test_a_single_row_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps(ROWS[0]))
    assert len(read(tmp_path / "one.jsonl").examples) == 1
    (tmp_path / "one.json").write_text(
        json.dumps({"messages": [{"role": "assistant", "content": "a"}], "meta": {"a": 1}})
    )
    assert len(read(tmp_path / "one.json").examples) == 1
