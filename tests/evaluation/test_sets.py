"""Evaluation sets: their final answers, and the rows that are chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.errors import DataWarning, InputError
from curate.evaluation.config import EvaluationSet
from curate.evaluation.sets import read_set
from tests.fixtures.chats import ODD, write_odd_chats
from tests.fixtures.evaluation import asked, table

# -- sets -------------------------------------------------------------------------------------------------------------


def test_final_answers_come_from_their_column_else_from_what_a_solution_marks() -> None:
    rows = table(
        question=["q"] * 5,
        answer=["so 3\n#### 3", "long talk of 3 and 4", "18", None, "The answer is (B)."],
        final_answer=["5", None, None, "9", None],
        source=None,
        level=None,
    )
    found = asked(rows)
    assert found.answers == ["5", None, "18", "9", "(B)"]
    assert found.completions == ["so 3\n#### 3", "long talk of 3 and 4", "18", "9", "The answer is (B)."]
    assert found.answer_only == 2
    for name in ("final_answer", "Answer"):
        for numbers in ([18, 3], [18.0, 3.0]):
            bare = asked(pa.table({"question": ["a", "b"], name: numbers}))
            assert (bare.answers, bare.completions, bare.answer_only) == (["18", "3"], ["18", "3"], 2)


def test_rows_are_chosen_sampled_and_left_out_as_asked() -> None:
    rows = table(
        question=["a", None, "c", "d"],
        answer=["1", "2", None, "4"],
        source=None,
        level=["e", "e", "e", "f"],
        split=["test", "test", "test", "train"],
    )
    with pytest.warns(DataWarning, match=r"\(test 1, train 1\).*where: split=test"):
        assert asked(rows).left_out == 2
    assert asked(rows, where="split=test").texts == ["a"]
    assert asked(rows, where="split=test").levels == ["e"]
    assert asked(rows, where="split=test", level="split").levels == ["test"]
    many = pa.table({"question": [f"q{k}" for k in range(50)], "answer": ["1"] * 50})
    some = [asked(many, limit=9, seed=seed).texts for seed in (0, 0, 1)]
    assert len(some[0]) == 9
    assert some[0] == some[1] != some[2]
    with pytest.raises(InputError, match="no column 'grade' for the level"):
        asked(level="grade")
    with pytest.raises(InputError, match="text alone have no question"):
        asked(pa.table({"text": ["a"]}))
    with pytest.raises(InputError, match=r"evaluation set q .*match no known shape"):
        asked(pa.table({"riddle": ["a"]}))


def test_pairs_ask_for_the_chosen_answer_and_completions_with_labels_for_their_own() -> None:
    said = [{"role": "assistant", "content": "The answer is 2."}]
    chat = [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "1."},
        {"role": "user", "content": "2?"},
    ]
    rows: list[dict[str, Any]] = [
        {"prompt": "2?", "chosen": "The answer is 2.", "rejected": "The answer is 3."},
        {"prompt": chat, "chosen": said, "rejected": [{"role": "assistant", "content": "3"}]},
        {"chosen": [*chat, *said], "rejected": [*chat, {"role": "assistant", "content": "3"}]},
        {"prompt": "2?", "completion": "The answer is 2.", "label": False},
    ]
    for row in rows:
        found = asked(pa.Table.from_pylist([row]))
        assert (found.texts, found.completions, found.answers) == (["2?"], ["The answer is 2."], ["2"]), row


def test_a_training_split_that_nobody_asked_for_is_warned_of() -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"question": ["1 + 1?", "1 + 2?"], "answer": ["2", "3"]})
    several = datasets.DatasetDict({"train": table, "test": table})
    with pytest.warns(DataWarning, match="sums is read from its split train"):
        read_set(EvaluationSet(data=several, name="sums"))
    # Warnings are errors: none where a split is named, where there is one only, or for solved examples.
    read_set(EvaluationSet(data=several, name="sums", split="train"))
    read_set(EvaluationSet(data=datasets.DatasetDict({"train": table}), name="sums"))
    read_set(EvaluationSet(data=several, name="sums"), generates=False)


def test_conversations_in_json_are_questions_too(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "#### 2"}]
    texts = asked(pa.table({"messages": [json.dumps(chat)]}))
    assert (texts.texts, texts.answers) == (["1 + 1?"], ["2"])
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "system", "content": "Be.", "name": "a"}, *chat]}))
    assert read_set(EvaluationSet(data=str(path))).answers == ["2"]


def test_a_set_is_read_by_every_option_of_reading(tmp_path: Path) -> None:
    path = write_odd_chats(tmp_path, ["Où ?", "Quand ?"])
    questions = read_set(EvaluationSet(data=path, **ODD))
    assert questions.texts == ["Où ?", "Quand ?"]
    assert questions.completions == ["Gémeaux 0", "Gémeaux 1"]
    with pytest.raises(InputError, match=r"encoding cp1252.*written \{data: FILE, encoding: NAME\}"):
        read_set(EvaluationSet(data=path))
    bars = tmp_path / "bars.csv"
    bars.write_text("question~answer\nWhere?~here\n")
    assert read_set(EvaluationSet(data=bars, delimiter="~")).completions == ["here"]
