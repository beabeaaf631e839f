"""Code for TRL: a mapping where the columns need one, and none where they do not."""

from __future__ import annotations

import json
from typing import Any

from curate.data.readers import read
from curate.data.written_form import written_form
from curate.report.trainer_snippets import training_section
from curate.report.trl_snippet import trl_snippet

ASKED, SAID = [{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}]


def _snippet(row: dict[str, Any]) -> str:
    examples = read([row]).examples
    return trl_snippet(written_form(examples, examples.table))


def _mapped(row: dict[str, Any]) -> dict[str, Any]:
    """What the function of the snippet makes of the row."""
    code = _snippet(row)
    function = code[code.index("\n\n\n") : code.index("\n\n\nrows = rows.map")]
    names: dict[str, Any] = {}
    exec("import json" + function, names)
    found: dict[str, Any] = names["to_trl"](row)
    return found


def test_rows_that_trl_takes_need_no_mapping() -> None:
    assert "to_trl" not in _snippet({"messages": [*ASKED, *SAID]})
    assert 'select_columns(["prompt", "completion"])' in _snippet({"prompt": "a", "completion": "b"})
    assert 'dataset_text_field="content"' in _snippet({"content": "a"})
    assert 'select_columns(["chosen", "rejected"])' in _snippet(
        {"chosen": [*ASKED, *SAID], "rejected": [*ASKED, *SAID]}
    )
    assert "DPOTrainer" in _snippet({"prompt": "a", "chosen": "b", "rejected": "c"})
    assert "KTOTrainer" in _snippet({"prompt": "a", "completion": "b", "label": True})


def test_no_code_is_shown_that_would_leave_something_out() -> None:
    assert _snippet({"question": "a", "answer": "b", "history": [["c", "d"]]}) == ""
    assert _snippet({"conversation": [{"human": "a", "assistant": "b"}]}) == ""
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}]}, *SAID]
    assert _snippet({"messages": parts}) == ""
    assert '"context"' in _snippet({"question": "a", "context": "c", "answer": "b"}).replace("'", '"')


def test_speakers_are_called_what_chat_templates_call_them() -> None:
    spoken = [{"from": "human", "value": "a"}, {"from": "chatgpt", "value": "b"}]
    assert _mapped({"conversations": spoken}) == {"messages": [*ASKED, *SAID]}
    assert _mapped({"messages": [*ASKED, {"role": "bot", "content": "b"}]}) == {"messages": [*ASKED, *SAID]}


def test_what_a_mapping_makes_of_a_row() -> None:
    assert _mapped({"question": "a", "answer": "b"}) == {"prompt": "a\n", "completion": "b"}
    assert _mapped({"instruction": "a", "input": "c", "output": "b"}) == {"prompt": "a\nc\n", "completion": "b"}
    spoken = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert _mapped({"conversations": spoken}) == {"messages": [*ASKED, *SAID]}
    pair = {"conversations": spoken[:1], "chosen": spoken[1], "rejected": spoken[1]}
    assert _mapped(pair) == {"prompt": ASKED, "chosen": SAID, "rejected": SAID}
    assert _mapped({"conversations": spoken, "label": True}) == {"prompt": ASKED, "completion": SAID, "label": True}
    assert _mapped({"question": "a", "answer": "b", "kto_tag": False}) == {
        "prompt": "a\n",
        "completion": "b",
        "label": False,
    }


def test_tools_are_shown_wherever_trl_takes_them() -> None:
    pair = {"prompt": ASKED, "chosen": SAID, "rejected": SAID}
    whole = {"chosen": [*ASKED, *SAID], "rejected": [*ASKED, *SAID]}
    for row in ({"messages": [*ASKED, *SAID]}, {"prompt": ASKED, "completion": SAID}, pair, whole):
        (named,) = [line for line in _snippet({**row, "tools": "[]"}).splitlines() if "select_columns" in line]
        assert '"tools"' in named
        assert _mapped({**row, "functions": "[]"}) == {**row, "tools": []}
    behind = {"prompt": ASKED, "chosen": "b", "rejected": "b", "tools": "[]"}
    assert _mapped(behind) == {"prompt": ASKED, "chosen": SAID, "rejected": SAID, "tools": []}
    plain = {"prompt": "a", "chosen": "b", "rejected": "b", "tools": "[]"}
    assert _snippet(plain) == ""  # no code, rather than code that leaves them out


def test_tools_that_no_template_would_take_are_given_the_form_that_it_takes() -> None:
    function = {"name": "add", "parameters": {"type": "object"}}
    wrapped = [{"type": "function", "function": function}]
    said = {"messages": [*ASKED, *SAID]}
    assert "to_trl" not in _snippet({**said, "tools": wrapped})
    for tools in ([function], json.dumps([function]), [json.dumps(function)], [json.dumps(wrapped[0])]):
        assert _mapped({**said, "tools": tools}) == {**said, "tools": wrapped}


def test_calls_and_parts_that_trl_does_not_take_have_no_code() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {}}]}
    assert _snippet({"messages": [*ASKED, called]}) == ""
    seen = {"role": "user", "content": [{"type": "image", "image": "x.png"}, {"type": "text", "text": "a"}]}
    examples = read([{"messages": [seen, *SAID]}]).examples
    form = written_form(examples, examples.table)
    assert form.unseen
    assert "messages have parts other than text" in training_section(form)
    assert "--write-as" not in training_section(form)
