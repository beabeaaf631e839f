"""The wording around prompts and completions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.errors import InputError
from curate.tokenization.layouts import Piece
from curate.tokenization.templates import renderer, resolve_template
from tests.fixtures.tokenizers import CHATML, byte_level

# -- prompts and completions ---------------------------------------------------------------------------------------

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
BRACES = "{instruction} {input} {} {0} {{x}} %s $x \\1"


def rendered_table(table: dict[str, Any], template: str, tokenizer: Any = None) -> list[list[Piece]]:
    data = read(pa.table(table)).examples
    return renderer(data, template, tokenizer)(0, len(data))


def test_alpaca_wording_is_the_standard_one() -> None:
    table = {"instruction": ["Add.", BRACES, "Go", "Go"], "input": ["1, 2", BRACES, "", None], "output": list("3xyz")}
    assert rendered_table(table, "alpaca") == [
        [(ALPACA_INPUT.replace("{instruction}", "Add.").replace("{input}", "1, 2"), "prompt"), ("3", "completion")],
        [
            (
                ALPACA_INPUT.split("{instruction}")[0] + BRACES + "\n\n### Input:\n" + BRACES + "\n\n### Response:",
                "prompt",
            ),
            ("x", "completion"),
        ],
        [(ALPACA.replace("{instruction}", "Go"), "prompt"), ("y", "completion")],
        [(ALPACA.replace("{instruction}", "Go"), "prompt"), ("z", "completion")],
    ]


@pytest.mark.parametrize(
    "names", [("prompt", "completion"), ("question", "answer"), ("instruction", "output")], ids=lambda names: names[0]
)
@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_prompts_of_every_shape_are_wrapped_alike(names: tuple[str, str], template: str) -> None:
    found = rendered_table({names[0]: [BRACES], names[1]: ["{y} "]}, template)
    before = {"alpaca": ALPACA.replace("{instruction}", BRACES), "plain": BRACES + "\n"}[template]
    assert found == [[(before, "prompt"), ("{y} ", "completion")]]


def test_plain_puts_the_input_on_lines_of_its_own() -> None:
    table = {"instruction": ["Add.", "Go"], "input": ["1\n2", ""], "output": ["3", "x"]}
    assert [row[0][0] for row in rendered_table(table, "plain")] == ["Add.\n1\n2\n", "Go\n"]


def test_prompts_go_through_a_chat_template_as_one_exchange() -> None:
    tokenizer = byte_level(chat=CHATML)
    turns = rendered_table(
        {"messages": [[{"role": "user", "content": "a\n{x}"}, {"role": "assistant", "content": "b"}]]},
        "chat",
        tokenizer,
    )
    pair = rendered_table({"prompt": ["a\n{x}"], "completion": ["b"]}, "chat", tokenizer)
    given = rendered_table({"instruction": ["a"], "input": ["{x}"], "output": ["b"]}, "chat", tokenizer)
    assert turns == pair == given


def test_prompt_and_completion_columns_of_messages_are_one_conversation_of_which_the_completion_is_learned() -> None:
    contents = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "a"), ("assistant", "b")]
    turns = [{"role": role, "content": content} for role, content in contents]
    tokenizer = byte_level(chat=CHATML)
    halves = {"prompt": [turns[:-1]], "completion": [turns[-1:]]}
    (whole,) = rendered_table({"messages": [turns]}, "chat", tokenizer)
    assert [part for _, part in whole] == ["prompt", "completion", "end"] * 2
    asked = "".join(text for text, _ in whole[:-2])
    assert rendered_table(halves, "chat", tokenizer) == [[(asked, "prompt"), *whole[-2:]]]


def test_text_gets_nothing_around_it() -> None:
    assert rendered_table({"text": [BRACES, " a "]}, "none") == [[(BRACES, "completion")], [(" a ", "completion")]]


def test_rows_are_the_ones_asked_for() -> None:
    data = read(pa.table({"prompt": list("abcd"), "completion": list("wxyz")})).examples
    render = renderer(data, "plain", None)
    assert render(1, 3) == render(0, 4)[1:3]


@pytest.mark.parametrize(
    ("template", "shape", "scratch", "resolved"),
    [
        ("auto", "prompt_completion", False, "alpaca"),
        ("auto", "question_answer", True, "plain"),
        ("auto", "instruction", False, "alpaca"),
        ("auto", "messages", False, "chat"),
        ("auto", "messages", True, "chat"),
        ("auto", "text", False, "none"),
        ("alpaca", "prompt_completion", True, "alpaca"),
        ("plain", "instruction", False, "plain"),
        ("chat", "prompt_completion", False, "chat"),
        ("chat", "messages", False, "chat"),
    ],
)
def test_resolved_template(template: Any, shape: str, scratch: bool, resolved: str) -> None:
    assert resolve_template(template, shape, scratch) == resolved


@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_messages_take_no_prompt_wording(template: Any) -> None:
    with pytest.raises(InputError, match="template: chat"):
        resolve_template(template, "messages", False)
