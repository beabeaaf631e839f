"""Shapes and roles are found by the names and types of columns, or given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import curate
from curate.data.column_names import ROLES, SHAPES
from curate.data.columns import content_roles, parse_columns, recognize
from curate.errors import InputError

MESSAGES = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
TEXT = pa.string()


@pytest.mark.parametrize(
    ("fields", "shape", "content"),
    [
        ({"prompt": TEXT, "completion": TEXT}, "prompt_completion", ["prompt", "completion"]),
        ({"prompt": TEXT, "response": TEXT}, "prompt_completion", ["prompt", "response"]),
        ({"instruction": TEXT, "output": TEXT}, "instruction", ["instruction", "output"]),
        ({"output": TEXT, "input": TEXT, "instruction": TEXT}, "instruction", ["instruction", "input", "output"]),
        (
            {"instruction": TEXT, "context": TEXT, "response": TEXT},
            "instruction",
            ["instruction", "context", "response"],
        ),
        ({"question": TEXT, "answer": TEXT}, "question_answer", ["question", "answer"]),
        ({"problem": TEXT, "solution": TEXT, "answer": TEXT}, "question_answer", ["problem", "solution"]),
        ({"Query": TEXT, "Response": TEXT}, "question_answer", ["Query", "Response"]),
        ({"messages": MESSAGES, "prompt": TEXT, "completion": TEXT}, "messages", ["messages"]),
        ({"messages": TEXT, "text": pa.large_string()}, "text", ["text"]),
        ({"prompt": MESSAGES, "completion": MESSAGES}, "messages", ["prompt", "completion"]),
        ({"text": pa.dictionary(pa.int8(), TEXT)}, "text", ["text"]),
    ],
)
def test_shape_is_recognized_from_names_and_types(
    fields: dict[str, pa.DataType], shape: str, content: list[str]
) -> None:
    found, columns = recognize(pa.schema(fields))
    assert found == shape
    assert [columns[role] for role in content_roles(found, columns)] == content
    assert set(columns) <= set(ROLES)


def test_optional_roles() -> None:
    schema = pa.schema({"id": TEXT, "question": TEXT, "answer": TEXT, "final_answer": TEXT, "source": TEXT})
    content = {"prompt": "question", "completion": "answer"}
    assert recognize(schema)[1] == {**content, "id": "id", "source": "source", "final_answer": "final_answer"}
    # Trained on, the final answer still is the final answer, and an empty `answer` is not.
    assert recognize(schema, {"completion": "final_answer"})[1]["final_answer"] == "final_answer"
    bare = pa.schema({"question": TEXT, "answer": TEXT})
    assert "final_answer" not in recognize(bare)[1]
    worked = pa.schema({"problem": TEXT, "solution": TEXT, "answer": TEXT})
    assert recognize(worked)[1]["final_answer"] == "answer"
    assert recognize(bare, {"final_answer": "answer"})[1]["final_answer"] == "answer"


def test_given_columns_and_shape_win() -> None:
    schema = pa.schema({"question": TEXT, "answer": TEXT, "text": TEXT, "body": TEXT, "chat": MESSAGES})
    assert recognize(schema, shape="text") == ("text", {"text": "text", "final_answer": "answer"})
    assert recognize(schema, {"text": "body"})[1]["text"] == "body"
    assert recognize(schema, {"prompt": "body", "completion": "text"})[0] == "prompt_completion"
    assert recognize(schema, {"messages": "chat"})[0] == "messages"
    assert recognize(schema, {"completion": "body"})[1]["prompt"] == "question"
    shape, columns = recognize(schema, {"instruction": "question", "output": "answer", "input": "body"})
    assert (shape, columns["input"]) == ("instruction", "body")


@pytest.mark.parametrize(
    ("fields", "columns", "shape", "message"),
    [
        (
            {"question": TEXT, "answer": TEXT},
            {"completion": "anwser"},
            None,
            "no column 'anwser'.*did you mean 'answer'",
        ),
        ({"question": TEXT, "answer": TEXT}, {"completon": "answer"}, None, "unknown role 'completon'.*'completion'"),
        ({"question": TEXT, "answer": TEXT}, {}, "mesages", "unknown shape 'mesages'.*'messages'"),
        ({"question": TEXT, "answer": TEXT}, {}, "instruction", "shape instruction needs.*instruction=COLUMN,output="),
        (
            {"a": TEXT, "b": TEXT},
            {},
            None,
            "columns a, b match no known shape.*--columns prompt=COLUMN,completion=COLUMN",
        ),
        ({"question": TEXT, "answer": pa.int64()}, {}, None, "'answer' holds int64, not text.*completion=COLUMN"),
        ({"messages": TEXT}, {}, None, "'messages' holds string, not a list of messages"),
        ({"prompt": MESSAGES, "completion": TEXT}, {}, None, "'completion' holds string, not a list of messages"),
        ({"text": TEXT, "x": MESSAGES}, {"source": "x"}, None, "column 'x' holds list.* cannot be source"),
    ],
)
def test_shape_errors_name_the_fault_and_the_remedy(
    fields: dict[str, pa.DataType], columns: dict[str, str], shape: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        recognize(pa.schema(fields), columns, shape)
    assert "\n" not in str(caught.value)


def test_parse_columns() -> None:
    text = "prompt=question, completion=the answer,final_answer=f,id=i,source=s"
    expected = {"prompt": "question", "completion": "the answer", "final_answer": "f", "id": "i", "source": "s"}
    assert parse_columns(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt", "'prompt' is not ROLE=COLUMN"),
        ("prompt=", "is not ROLE=COLUMN"),
        ("", "is not ROLE=COLUMN"),
        ("prompt=a,prompt=b", "role 'prompt' is given twice"),
        ("promt=a", "unknown role 'promt'.*did you mean 'prompt'"),
    ],
)
def test_parse_columns_errors(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_columns(text)


def test_every_shape_has_roles() -> None:
    assert set(SHAPES) == {"prompt_completion", "instruction", "question_answer", "messages", "text"}


def test_a_column_serves_one_content_role_only() -> None:
    schema = pa.schema({"question": TEXT, "answer": TEXT})
    with pytest.raises(InputError, match="prompt=question,completion=question: a column cannot be both"):
        recognize(schema, {"prompt": "question", "completion": "question"})
    assert recognize(schema, {"completion": "answer", "final_answer": "answer", "id": "answer"})[1]["id"] == "answer"
    # What the caller named for one role is not found again for another.
    found = recognize(pa.schema({"response": TEXT, "answer": TEXT}), {"prompt": "response"}, "question_answer")[1]
    assert (found["prompt"], found["completion"]) == ("response", "answer")
    context = pa.schema({"context": TEXT, "output": TEXT})
    assert "input" not in recognize(context, {"instruction": "context"})[1]
    with pytest.raises(InputError, match="prompt=COLUMN"):
        recognize(schema, {"prompt": "answer"}, "prompt_completion")


def test_messages_about_many_columns_or_long_types_and_cells_stay_short() -> None:
    names = [f"column-{k}" * (1 + 20 * (k == 1)) for k in range(500)]
    schema = pa.schema([(name, TEXT) for name in names])
    for columns, shape in (({}, None), ({}, "instruction"), ({"prompt": "nothing"}, None)):
        with pytest.raises(InputError, match=r"column-0, .*\.\.\. \(500 in all\)") as caught:
            recognize(schema, columns, shape)
        assert len(str(caught.value)) < 300
    wide = pa.struct([(name, TEXT) for name in names])
    with pytest.raises(InputError, match="cannot be source") as caught:
        recognize(pa.schema({"text": TEXT, "x": wide}), {"source": "x"}, None)
    assert len(str(caught.value)) < 300
    table = pa.table({"text": ["a " * 1000, "b " * 1000], "x": pa.nulls(2, wide)})
    for where in ("text=c", "x=c", "y=c"):
        with pytest.raises(InputError) as caught:
            curate.read(table, where=where)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reasoning": "I think."}, "column 'reasoning' is not read"),
        ({"Complex_CoT": "I think."}, "column 'Complex_CoT' is not read"),
        ({"image": "a.png"}, "column 'image' is kept, but no model sees it"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat templates get nothing of it"),
        ({"enable_thinking": True}, "chat templates get nothing of it"),
        ({"rejected_response": "no"}, "no column has the chosen answers beside it"),
    ],
)
def test_columns_that_say_something_and_are_not_read_are_told(more: dict[str, Any], said: str) -> None:
    (line,) = (line for line in curate.read([{"prompt": "q", "completion": "a", **more}]).notes if said in line)
    assert next(iter(more)) in line
    assert len(curate.read([{"prompt": "q", "completion": "a", **dict.fromkeys(more)}]).notes) == 1


def test_further_names_of_conversations() -> None:
    chat = [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]
    loaded = curate.read([{"systemInstruction": {"parts": [{"text": "s"}]}, "contents": chat}])
    said = [("system", "s"), ("user", "q"), ("assistant", "a")]
    assert [(turn["role"], turn["content"]) for turn in loaded.examples.conversations(0, 1)[0]] == said
    assert "system=systemInstruction" in loaded.notes[0]
    for name in ("items", "utterances"):
        assert curate.read([{name: [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]).examples
    exchanges = [{"user": "q", "assistant": "a", "output_with_loss": False}, {"user": "r", "assistant": "b"}]
    turns = curate.read([{"images": ["a.png"], "texts": exchanges}]).examples.conversations(0, 1)[0]
    assert [(turn["content"], turn.get("train", True)) for turn in turns[1::2]] == [("a", False), ("b", True)]


def test_spaces_around_names_as_in_a_header_with_a_space_behind_each_comma(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("prompt, completion, system\nq,a,s\n", encoding="utf-8")
    examples = curate.read(path).examples
    assert examples.columns == {"prompt": "prompt", "completion": " completion", "system": " system"}
    assert examples.table.column_names == ["prompt", " completion", " system"]
