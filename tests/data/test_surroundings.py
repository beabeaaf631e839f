"""Columns beside prompt and completion are shown to a model, in every shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.data.surroundings import NOTHING, Surroundings, faults_of, joined_context, question_with, surrounded
from curate.data.turns import USUAL
from curate.data.written_form import written_form
from curate.errors import InputError
from curate.report.trainer_snippets import training_section
from curate.tokenization.templates import renderer
from tests.fixtures.tokenizers import CHATML, byte_level

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds."}}
AROUND: dict[str, Any] = {"system": "Be brief.", "history": [["h1", "h2"]], "context": "Facts.", "tools": [TOOL]}
SHAPES: dict[str, dict[str, Any]] = {
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "question_answer": {"question": "q", "answer": "a"},
    "instruction": {"instruction": "q", "input": "", "output": "a"},
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "pair": {"input": "q", "output": "a"},
}
CHAT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nh1<|im_end|>\n<|im_start|>assistant\nh2<|im_end|>\n"
    "<|im_start|>user\nFacts.\n\nq<|im_end|>\n<|im_start|>assistant\n"
)


def rendered(table: pa.Table, template: str, chat: str | None = CHATML, **reading: Any) -> list[tuple[str, str]]:
    return renderer(read(table, **reading).examples, template, byte_level(chat=chat))(0, 1)[0]  # type: ignore[return-value]


def table(shape: str, **around: Any) -> pa.Table:
    return pa.Table.from_pylist([{**SHAPES[shape], **around}])


@pytest.mark.filterwarnings("ignore:the chat template of:UserWarning")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_one_conversation_in_a_chat(shape: str) -> None:
    assert rendered(table(shape, **AROUND), "chat") == [(CHAT, "prompt"), ("a", "completion"), ("<|im_end|>", "end")]
    loaded = read(table(shape, **AROUND))
    assert "system=system, history=history, context=context, tools=tools" in loaded.notes[0]
    assert loaded.examples.texts("tools", 0, 1) == [[TOOL]]
    assert loaded.examples.texts("system", 0, 1) == ["Be brief."]


@pytest.mark.parametrize(
    "system",
    [
        ["Be", "brief."],
        {"content": "Be\n\nbrief."},
        {"role": "system", "parts": [{"text": "Be"}, {"text": "brief."}]},
        [{"text": "Be"}, {"text": "brief."}],
        [{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "brief."}],
    ],
)
def test_a_system_in_parts_is_shown_joined_and_no_snippet_takes_it_for_text(system: Any) -> None:
    loaded = read(table("messages", system=system))
    assert "system=system" in loaded.notes[0]
    assert loaded.examples.texts("system", 0, 1) == ["Be\n\nbrief."]
    section = training_section(written_form(loaded.examples, loaded.examples.table))
    assert "TRL, axolotl and LLaMA-Factory cannot read these columns as they are" in section


def test_documents_beside_a_question_are_its_context() -> None:
    for name in ("documents", "retrieved_contexts"):
        assert read(table("question_answer", **{name: ["d1", "d2"]})).examples.questions(0, 1) == ["d1\n\nd2\n\nq"]
    loaded = read(table("question_answer", documents=[{"title": "t", "text": "x"}]))
    assert any("'documents'" in line and "no model sees it" in line for line in loaded.notes)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "messages"])
def test_plain_and_alpaca_prompts(shape: str) -> None:
    before = f"{json.dumps(TOOL)}\n\nBe brief.\n\nh1\nh2\n\n"
    assert rendered(table(shape, **AROUND), "plain") == [(f"{before}Facts.\nq\n", "prompt"), ("a", "completion")]
    (prompt, _), answer = rendered(table(shape, **AROUND), "alpaca")
    assert prompt.startswith(f"{before}Below is an instruction")
    assert answer == ("a", "completion")
    assert prompt.endswith("### Instruction:\nq\n\n### Input:\nFacts.\n\n### Response:")


def test_an_input_beside_a_context() -> None:
    row = {"instruction": "q", "input": "i", "context": "Facts.", "output": "a"}
    (prompt, _), _ = rendered(pa.Table.from_pylist([row]), "plain")
    assert prompt == "Facts.\nq\ni\n"
    (prompt, _), _ = rendered(pa.Table.from_pylist([row]), "alpaca")
    assert prompt.startswith("Facts.\n\nBelow")
    assert "### Input:\ni\n" in prompt
    alone = pa.Table.from_pylist([{"instruction": "q", "context": "Facts.", "response": "a"}])
    assert read(alone).examples.columns == {
        "instruction": "q" and "instruction",
        "output": "response",
        "input": "context",
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_that_nothing_surrounds_are_as_without_the_columns(shape: str) -> None:
    bare, empty = read(table(shape)), read(table(shape, system="", history=[[]], context=None, tools="[]"))
    assert empty.examples.ids.equals(bare.examples.ids)
    template = "chat" if shape == "messages" else "plain"
    assert rendered(table(shape), template) == rendered(table(shape, system="", history="[]", tools=None), template)
    others = [read(table(shape, **{role: AROUND[role]})).examples.ids[0].as_py() for role in AROUND]
    assert len({*others, bare.examples.ids[0].as_py()}) == 5  # what a model sees is in the id


@pytest.mark.parametrize("role", AROUND)
def test_a_role_is_switched_off_or_named(role: str) -> None:
    given = table("question_answer", **{role: AROUND[role]})
    assert read(given).examples.columns[role] == role
    assert role not in read(given, columns=f"{role}=").examples.columns
    assert read(given, columns={role: ""}).examples.ids.equals(read(table("question_answer")).examples.ids)
    renamed = given.rename_columns(["question", "answer", "other"])
    assert role not in read(renamed).examples.columns
    assert read(renamed, columns=f"{role}=other").examples.ids.equals(read(given).examples.ids)


@pytest.mark.parametrize(
    ("name", "role"),
    [("system_prompt", "system"), ("System Prompt", "system"), ("chat_history", "history"), ("functions", "tools")],
)
def test_usual_names(name: str, role: str) -> None:
    assert read(table("question_answer", **{name: AROUND[role]})).examples.columns[role] == name


def test_what_only_has_such_a_name_is_not_read_and_said() -> None:
    loaded = read(table("question_answer", tools="hammer, saw", history="in 1890", context={"a": 1}, system=3))
    assert set(loaded.examples.columns) == {"prompt", "completion"}
    said = "\n".join(loaded.notes)
    assert "column 'tools' is not read as tools, so no model sees it: its cell in row 0 holds a tool without" in said
    assert "column 'history' is not read as history" in said
    assert "column 'context' holds struct<a: int64>, which is not read as context: no model sees it" in said
    assert "column 'system' holds int64" in said
    with pytest.raises(InputError, match=r"row 0 .*column 'tools' holds a tool without a name"):
        read(table("question_answer", tools="hammer, saw"), columns="tools=tools")
    with pytest.raises(InputError, match="cannot be system"):
        read(table("question_answer", system=3), columns="system=system")


def test_a_few_faults_are_bad_rows() -> None:
    rows = [{"question": "q", "answer": str(k), "tools": json.dumps([TOOL]) if k else "saw"} for k in range(4)]
    with pytest.raises(InputError, match=r"row 0 .*column 'tools' holds a tool without a name"):
        read(pa.Table.from_pylist(rows))
    loaded = read(pa.Table.from_pylist(rows), on_bad_row="drop")
    assert loaded.rows.tolist() == [1, 2, 3]
    assert loaded.examples.texts("tools", 0, 3) == [[TOOL]] * 3


def test_a_conversation_has_its_own_system() -> None:
    own = [{"role": "system", "content": "Own."}, {"role": "user", "content": "q"}]
    around = Surroundings("Column.", [{"role": "user", "content": "h"}], "Facts.", None)
    assert surrounded(own, around) == [
        own[0],
        {"role": "user", "content": "h"},
        {"role": "user", "content": "Facts.\n\nq"},
    ]
    assert surrounded(own[1:], NOTHING) == own[1:]
    assert (
        surrounded([{"role": "assistant", "content": "a"}], Surroundings("", [], "Facts.", None))[0]["role"] == "user"
    )
    assert joined_context(["a", "", None, "b"]) == "a\n\nb"
    assert question_with("", "q") == "q"


def test_a_system_column_beside_messages_of_the_system_is_said() -> None:
    own = [{"role": "system", "content": "Own."}, *SHAPES["messages"]["messages"]]
    rows = [{"messages": own, "system": "Column."}, {"messages": own, "system": ""}, table("messages", system="C.")]
    loaded = read(pa.Table.from_pylist([*rows[:2], *rows[2].to_pylist()]))
    (note,) = (note for note in loaded.notes if "their own system message" in note)
    assert note.startswith("1 rows have their own system message")
    assert "'system'" in note
    assert [turns[0]["content"] for turns in loaded.examples.texts("messages", 0, 3)] == ["Own.", "Own.", "C."]


def test_faults_of_a_column() -> None:
    column = pa.chunked_array([["[]", "saw"], [None, "drill"]])
    assert set(faults_of("tools", column, USUAL)) == {1, 3}
    assert not faults_of("context", column, USUAL)


def test_tools_that_differ_by_row_keep_their_keys(tmp_path: Path) -> None:
    def tool(name: str, **properties: Any) -> dict[str, Any]:
        return {"name": name, "parameters": {"type": "object", "properties": properties}}

    rows = [
        {"question": "q", "answer": "a", "tools": [tool("add", a={"type": "integer"})]},
        {"question": "r", "answer": "a", "tools": [tool("store", place={"enum": ["x"]}), tool("now")]},
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wide = pa.Table.from_pylist(rows)  # every object with the keys of all others, null where it has none
    for loaded in (read(path), read(wide)):
        shown = loaded.examples.texts("tools", 0, 2)
        assert next([each["function"] for each in tools] for tools in shown) == rows[0]["tools"]
        assert shown[1][0]["function"]["parameters"]["properties"] == {"place": {"enum": ["x"]}}
