"""Rows in the forms that trainers take, and what a written dataset is in."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate.data.examples import Examples
from curate.data.readers import read
from curate.data.trainer_forms import check_form, in_form
from curate.data.written_form import FORMS, WriteAs
from curate.errors import DataWarning, InputError

CALL = {"id": "c0", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "What is 1?"},
    {"role": "assistant", "content": "1."},
]


def _examples(rows: list[dict[str, Any]], **reading: Any) -> Examples:
    return read(pa.Table.from_pylist(rows), **reading).examples


def _in(form: WriteAs, rows: list[dict[str, Any]], **reading: Any) -> list[dict[str, Any]]:
    examples = _examples(rows, **reading)
    (table,) = in_form([examples], [examples.table], form)
    return table.to_pylist()


def test_questions_and_answers() -> None:
    rows = [{"question": "What is 1?", "answer": "1.", "level": 3}]
    asked, said = {"role": "user", "content": "What is 1?"}, {"role": "assistant", "content": "1."}
    assert _in("input", rows) == rows
    assert _in("messages", rows) == [{"level": 3, "messages": [asked, said]}]
    assert _in("prompt_completion", rows) == [{"level": 3, "prompt": "What is 1?\n", "completion": "1."}]
    assert _in("alpaca", rows) == [{"level": 3, "instruction": "What is 1?", "input": "", "output": "1."}]
    spoken = [{"from": "human", "value": "What is 1?"}, {"from": "gpt", "value": "1."}]
    assert _in("sharegpt", rows) == [{"level": 3, "conversations": spoken}]


def test_prompts_and_completions_keep_their_characters() -> None:
    rows = [{"prompt": "1 +", "completion": " 1"}]
    assert _in("prompt_completion", rows) == rows


def test_conversations() -> None:
    rows = [{"id": "a", "messages": CHAT}]
    assert _in("messages", rows) == rows
    with pytest.warns(DataWarning, match="1 rows have several answers that are learned, and this form the last one"):
        assert _in("prompt_completion", rows) == [{"id": "a", "prompt": CHAT[:-1], "completion": CHAT[-1:]}]
    pair = {"instruction": "What is 1?", "input": "", "output": "1.", "system": "Be brief."}
    assert _in("alpaca", rows) == [{"id": "a", **pair, "history": [["Hello", "Hello."]]}]
    found = _in("sharegpt", rows)[0]
    assert found["system"] == "Be brief."
    assert [turn["from"] for turn in found["conversations"]] == ["human", "gpt", "human", "gpt"]
    other = [{"prompt": CHAT[:-1], "completion": CHAT[-1:]}]
    (whole,) = _in("messages", other)
    assert [{k: v for k, v in turn.items() if k != "train"} for turn in whole["messages"]] == CHAT
    assert [turn["train"] for turn in whole["messages"]] == [None, None, False, None, None]
    assert _in("prompt_completion", other) == other


def test_turns_that_are_not_learned_are_no_answers_and_are_marked_where_they_stand() -> None:
    rows = [{"messages": [*CHAT, {"role": "user", "content": "Sure?"}, {**CHAT[2], "content": "No.", "weight": 0}]}]
    with pytest.warns(DataWarning, match="several answers that are learned"):
        assert _in("prompt_completion", rows) == [{"prompt": CHAT[:-1], "completion": CHAT[-1:]}]
    rows = [{"messages": [*CHAT[:2], {**CHAT[2], "train": False}, *CHAT[3:]]}]
    assert _in("prompt_completion", rows) == [{"prompt": CHAT[:-1], "completion": CHAT[-1:]}]
    for form, column in (("messages", "messages"), ("sharegpt", "conversations")):
        (found,) = _in(form, rows)  # type: ignore[arg-type]
        assert [turn["train"] for turn in found[column]].count(False) == 1
        learned = [turn.get("train", True) for turn in _examples([found]).conversations(0, 1)[0]]
        assert learned == [True, True, False, True, True]


def test_pairs_and_labels() -> None:
    rows = [{"prompt": "What?", "chosen": "So.", "rejected": "No.", "score": 1}]
    asked = [{"role": "user", "content": "What?"}]
    so, no = ([{"role": "assistant", "content": text}] for text in ("So.", "No."))
    assert _in("messages", rows) == [{"score": 1, "prompt": asked, "chosen": so, "rejected": no}]
    assert _in("prompt_completion", rows) == [{"score": 1, "prompt": "What?", "chosen": "So.", "rejected": "No."}]
    alpaca = {"instruction": "What?", "input": "", "chosen": "So.", "rejected": "No."}
    assert _in("alpaca", rows) == [{"score": 1, **alpaca}]
    spoken = {"conversations": [{"from": "human", "value": "What?"}], "chosen": {"from": "gpt", "value": "So."}}
    assert _in("sharegpt", rows) == [{"score": 1, **spoken, "rejected": {"from": "gpt", "value": "No."}}]
    implicit = [{"chosen": [*asked, *so], "rejected": [*asked, *no]}]
    assert _in("prompt_completion", implicit) == [{"prompt": asked, "chosen": so, "rejected": no}]
    labeled = [{"question": "What?", "answer": "So.", "kto_tag": True}]
    assert _in("prompt_completion", labeled) == [{"prompt": "What?\n", "completion": "So.", "label": True}]
    assert _in("messages", labeled)[0]["completion"] == so


@pytest.mark.parametrize("form", FORMS[1:])
def test_texts_have_no_such_form(form: WriteAs) -> None:
    with pytest.raises(InputError, match=f"--write-as {form} needs rows with a prompt and a completion"):
        _in(form, [{"text": "a"}])
    check_form(_examples([{"text": "a"}]), "input")


def test_what_a_form_cannot_hold_is_named() -> None:
    rows = [{"id": "ok", "messages": CHAT}, {"id": "odd", "messages": [CHAT[1], CHAT[1], CHAT[2]]}]
    with pytest.raises(
        InputError, match=r"alpaca: the row with id odd is not an exchange.*; write messages or sharegpt"
    ):
        _in("alpaca", rows)
    with pytest.raises(InputError, match="there is no such form; forms are input, messages"):
        check_form(_examples(rows), "chatml")  # type: ignore[arg-type]


def test_a_column_that_stands_in_the_way_of_a_form_gives_way() -> None:
    rows = [{"question": "What?", "answer": "So.", "messages": "a note", "system_time": 3}]
    found = _in("messages", rows, columns="prompt=question,completion=answer")
    assert found[0]["messages"][0]["content"] == "What?"
    assert found[0]["system_time"] == 3


def test_new_rows_have_the_types_of_the_others() -> None:
    examples = _examples([{"messages": CHAT}])
    new = _examples([{"messages": CHAT[1:3]}])
    first, second = in_form([examples, new], [examples.table, new.table], "alpaca")
    assert first.schema == second.schema
    assert second["system"].to_pylist() == [None]


def test_reasoning_is_kept_in_every_form() -> None:
    thought = {"role": "assistant", "content": "1.", "reasoning_content": "Easy."}
    rows = [{"messages": [CHAT[3], thought]}]
    assert _in("messages", rows)[0]["messages"][1] == thought
    assert _in("prompt_completion", rows)[0]["completion"] == [thought]
    assert _in("alpaca", rows)[0]["output"] == "<think>\nEasy.\n</think>\n\n1."
    assert _in("sharegpt", rows)[0]["conversations"][1] == {"from": "gpt", "value": "<think>\nEasy.\n</think>\n\n1."}
    pair = {"prompt": [CHAT[3]], "chosen": [thought], "rejected": [CHAT[2]]}
    assert _in("alpaca", [pair])[0]["chosen"] == "<think>\nEasy.\n</think>\n\n1."


def test_turns_that_are_not_learned_are_told_where_a_form_cannot_mark_them() -> None:
    rows = [{"messages": [CHAT[1], {**CHAT[2], "train": False}, *CHAT[3:]]}]
    with pytest.warns(DataWarning, match="--write-as alpaca: 1 rows have turns .* not to be learned"):
        _in("alpaca", rows)
    assert _in("messages", rows)[0]["messages"][1]["train"] is False
    assert _in("sharegpt", rows)[0]["conversations"][1]["train"] is False


def test_rows_that_llama_factory_leaves_out_are_told() -> None:
    call = {"role": "assistant", "content": "I add.", "tool_calls": [CALL]}
    rows = [{"messages": [CHAT[1], call, {"role": "tool", "content": "3"}, CHAT[4]]}]
    with pytest.warns(DataWarning, match="1 rows are not an exchange .* in turn: LLaMA-Factory leaves them out"):
        found = _in("sharegpt", rows)
    speakers = [turn["from"] for turn in found[0]["conversations"]]
    assert speakers == ["human", "gpt", "function_call", "observation", "gpt"]


@pytest.mark.parametrize("form", FORMS[1:])
def test_parts_that_are_no_text_have_no_form(form: WriteAs) -> None:
    parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "So."}]}
    examples = read([{"messages": [{"role": "user", "content": parts}, answer]}]).examples
    with pytest.raises(InputError, match=f"--write-as {form}: column 'messages' .*image in 1 rows.* leave --write-as"):
        check_form(examples, form)


def test_rows_without_a_form_are_found_before_a_run() -> None:
    with pytest.raises(InputError, match="has tool calls, which alpaca has not"):
        check_form(_examples([{"messages": [CHAT[1], {"role": "assistant", "tool_calls": [CALL]}]}]), "alpaca")
