"""Tools, calls and reasoning through templates that know them, that know them otherwise, and that do not."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.data.json_values import column_of
from curate.data.readers import read
from curate.errors import DataWarning, InputError
from curate.tokenization.encoding import tokenize
from curate.tokenization.layouts import Piece
from curate.tokenization.templates import renderer
from tests.fixtures.tokenizers import CHATML, byte_level
from tests.fixtures.tool_templates import TOOL_TEMPLATES

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
FIRST, SECOND = "abcdefghi", "bcdefghij"


def call(arguments: Any, number: str = FIRST) -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": "add", "arguments": arguments}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str | None, **further: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **further}


def result(text: Any, number: str = FIRST) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": number, "content": text}


def tokenizer_of(template: str | None) -> Any:
    tokenizer = byte_level(chat=template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|call|>", "<|return|>"]})
    return tokenizer


def examples(turns: list[dict[str, Any]], tools: Any = (ADD,)) -> Any:
    columns: dict[str, Any] = {"messages": column_of("messages", [turns])[0]}
    if tools:
        columns["tools"] = column_of("tools", [list(tools)])[0]
    return read(pa.table(columns)).examples


def pieces(name: str | None, turns: list[dict[str, Any]], tools: Any = (ADD,)) -> list[Piece]:
    tokenizer = tokenizer_of(TOOL_TEMPLATES.get(name or "", name))
    rendered: list[Piece] = renderer(examples(turns, tools), "chat", tokenizer)(0, 1)[0]
    return rendered


def learned(name: str | None, turns: list[dict[str, Any]], tools: Any = (ADD,)) -> list[str]:
    return [text for text, part in pieces(name, turns, tools) if part == "completion"]


def qwen(*calls: str) -> str:
    return "\n".join(f'<tool_call>\n{{"name": "add", "arguments": {each}}}\n</tool_call>' for each in calls)


CALLED = {
    "qwen": qwen('{"a": 1}'),
    "llama": '{"name": "add", "parameters": {"a": 1}}',
    "mistral": '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"}]',
    "deepseek": '<|call|>add\n```json\n{"a": 1}\n```',
    "harmony": ' to=functions.add<|channel|>commentary<|message|>{"a": 1}',
}
ENDS = {"mistral": "<|end|>", "deepseek": "<|end|>", "harmony": "<|call|>"}
LAST_ENDS = ENDS | {"harmony": "<|return|>"}


@pytest.mark.filterwarnings("ignore:the chat template of:UserWarning")
@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'], ids=["object", "text"])
@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_calls_are_learned_as_the_template_writes_them_and_results_are_not(
    name: str, arguments: Any, content: str | None
) -> None:
    turns = [user("1 + 1?"), answer(content, tool_calls=[call(arguments)]), result('2\n"two"'), answer("It is 2.")]
    rendered = pieces(name, turns)
    assert [text for text, part in rendered if part == "completion"] == [CALLED[name], "It is 2."]
    ends = [ENDS.get(name, "<|im_end|>"), LAST_ENDS.get(name, "<|im_end|>")]
    assert [text for text, part in rendered if part == "end"] == ends
    context = "".join(text for text, part in rendered if part == "prompt")
    assert "two" in context
    assert name == "deepseek" or "add" in context


@pytest.mark.filterwarnings("ignore:the chat template of:UserWarning")
@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_the_text_is_the_templates_own(name: str) -> None:
    turns = [user("1 + 1?"), answer("", tool_calls=[call({"a": 1})]), result("2"), answer("It is 2.")]
    theirs = [dict(turn) for turn in turns]
    if name == "deepseek":
        theirs[1]["tool_calls"] = [call('{"a": 1}')]
    expected = tokenizer_of(TOOL_TEMPLATES[name]).apply_chat_template(theirs, tools=[ADD], tokenize=False)
    text = "".join(text for text, _ in pieces(name, turns))
    assert expected.startswith(text)
    assert not expected[len(text) :].strip()


@pytest.mark.filterwarnings("ignore:the chat template of:UserWarning")
@pytest.mark.parametrize("name", TOOL_TEMPLATES)
def test_a_call_alone_is_the_completion(name: str) -> None:
    assert learned(name, [user("1 + 1?"), answer(None, tool_calls=[call({"a": 1})])]) == [CALLED[name]]


def test_parallel_calls_and_their_results() -> None:
    both = [call({"a": 1}), call({"a": 2}, SECOND)]
    turns = [user("q"), answer(None, tool_calls=both), result("x"), result("y", SECOND), answer("done")]
    assert learned("qwen", turns) == [qwen('{"a": 1}', '{"a": 2}'), "done"]
    assert learned("mistral", turns)[0].count('"id": ') == 2
    with pytest.raises(InputError, match=r"^row 0: .*only supports single tool-calls"):
        learned("llama", turns)


def test_content_beside_a_call_and_arguments_of_any_depth() -> None:
    arguments = {"text": 'é "\n\U0001f600', "deep": [{"n": None, "x": [1.5, True]}]}
    turns = [user("q"), answer("I call.", tool_calls=[call(arguments)]), result("x"), answer("done")]
    (first, last) = learned("qwen", turns)
    assert (first, last) == ("I call.\n" + qwen(json.dumps(arguments, ensure_ascii=False)), "done")
    (first, last) = learned("llama", turns)  # which leaves out what is said beside a call
    assert (json.loads(first)["parameters"], last) == (arguments, "done")


def test_reasoning_is_learned_where_the_template_keeps_it() -> None:
    thought = answer("4", reasoning_content="2 and 2")
    turns = [user("2 + 2"), thought, user("2 + 2"), thought]
    assert learned("qwen", turns) == ["4", "<think>\n2 and 2\n</think>\n\n4"]
    final = "<|channel|>analysis<|message|>2 and 2<|im_end|><|im_start|>assistant<|channel|>final<|message|>4"
    assert learned("harmony", turns) == ["4", final]
    called = answer(None, thinking="hm", tool_calls=[call({"a": 1})])
    several = [user("q"), called, result("2"), thought, user("q"), called, result("2"), thought]
    call_after_thought = "<think>\nhm\n</think>\n\n" + CALLED["qwen"]
    assert learned("qwen", several) == [CALLED["qwen"], "4", call_after_thought, "<think>\n2 and 2\n</think>\n\n4"]


@pytest.mark.parametrize(
    ("turn", "tools", "what"),
    [
        (answer("4", reasoning_content="hm"), (), "reasoning"),
        (answer("4", tool_calls=[call({"a": 1})]), (), "tool calls"),
        (answer("4"), (ADD,), "tools"),
    ],
)
def test_one_warning_where_a_template_leaves_something_out(turn: dict[str, Any], tools: Any, what: str) -> None:
    read_rows = pa.table(
        {
            "messages": column_of("messages", [[user("q"), turn]] * 3)[0],
            "tools": column_of("tools", [list(tools) or None] * 3)[0],
        }
    )
    rows = read(read_rows).examples
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rendered = renderer(rows, "chat", byte_level(chat=CHATML))(0, 3)
    assert [text for row in rendered for text, part in row if part == "completion"] == ["4"] * 3
    (warning,) = caught
    assert issubclass(warning.category, DataWarning)
    assert re.search(rf"leaves out {what}, so", str(warning.message))


def test_a_call_that_no_template_shows_leaves_a_row_without_completion() -> None:
    with pytest.warns(DataWarning, match="leaves out tool calls"), pytest.raises(InputError, match=r"^row 0: "):
        learned(CHATML, [user("q"), answer("", tool_calls=[call({"a": 1})])], ())


def test_marked_turns_are_context() -> None:
    turns = [user("a"), answer("b", weight=0), user("c"), answer("d", weight=1), user("e"), answer("f", train=False)]
    for name in ("qwen", "llama", CHATML, None):
        rendered = pieces(name, turns, ())
        assert [text for text, part in rendered if part == "completion"] == ["d"]
        assert "b" in "".join(text for text, _ in rendered)
        assert rendered[-1][1] in ("completion", "end")


def test_developer_is_the_systems_role_where_a_template_has_none() -> None:
    turns = [{"role": "developer", "content": "Be brief."}, user("q"), answer("a")]
    assert "<|im_start|>system\nBe brief." in pieces("qwen", turns, ())[0][0]
    assert pieces(CHATML, turns, ())[0][0].startswith("<|im_start|>developer\nBe brief.")


@pytest.mark.filterwarnings("ignore:the chat template of:UserWarning")
@pytest.mark.parametrize("name", [*TOOL_TEMPLATES, None])
def test_tokens_that_count_are_those_of_calls_and_answers(name: str | None) -> None:
    """Token by token: the supervised ones, decoded, are what the template writes for the assistant, and its marks."""
    turns = [user("1 + 1?"), answer(None, tool_calls=[call({"a": 1})]), result("2"), answer("It is 2.")]
    rows = examples(turns)
    tokenizer = tokenizer_of(TOOL_TEMPLATES.get(name or ""))
    tokens = tokenize(rows, tokenizer, template="chat", max_length=4000)
    runs = np.split(tokens.ids, np.flatnonzero(np.diff(tokens.supervised.astype(int))) + 1)
    counted = [tokenizer.decode(run) for run in runs[1::2]]
    called = CALLED[name] if name else qwen('{"a": 1}')
    ends = [ENDS.get(name, "<|im_end|>"), LAST_ENDS.get(name, "<|im_end|>")] if name else ["", "<|end|>"]
    assert counted == [called + ends[0], "It is 2." + ends[1]]
    last = tokenize(rows, tokenizer, template="chat", max_length=4000, supervise="last")
    assert (last.ids == tokens.ids).all()
    assert tokenizer.decode(last.ids[last.supervised]) == "It is 2." + ends[1]
    assert last.supervised.sum() < tokens.supervised.sum()


def test_a_long_row_of_calls_keeps_its_last_answer() -> None:
    exchange = [user("x" * 400), answer(None, tool_calls=[call({"a": 1})]), result("y " * 200), answer("z")]
    turns = [{"role": "system", "content": "Be brief."}, *exchange * 20, user("1 + 1?"), answer("It is 2.")]
    tokenizer = tokenizer_of(TOOL_TEMPLATES["qwen"])
    tokens = tokenize(examples(turns), tokenizer, template="chat", max_length=300)
    text = tokenizer.decode(tokens.ids)
    assert text.endswith("1 + 1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nIt is 2.<|im_end|>")
    assert len(tokens.ids) <= 300
    assert tokens.valid.all()
    assert tokens.prompt_cut[0] > 0
