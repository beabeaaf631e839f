"""Only what the model said itself counts, whatever marks the end of its turn."""

from __future__ import annotations

import time

import pytest

from curate.verify import extract, grade, reference_answer, same_answer
from curate.verify.turns import own_words
from tests.fixtures.answers import RIGHT, WRONG

# -- ends, turns and tags ----------------------------------------------------------------------------------------------
ENDS = [
    "</s>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<eos>",
    "[/INST]",
    "<|end|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<|return|>",
    "<turn|>",
    "<|eom_id|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|EOT|>",
    "<pad>",
    "<|pad|>",
    "[EOS]",
    "<|end_of_turn|>",
    "<|endofprompt|>",
    "<eod>",
]


@pytest.mark.parametrize("end", ENDS)
def test_marks_of_the_end(end: str) -> None:
    for said in (
        "#### 42",
        "The answer is 42",
        "The answer is 42.",
        "So it is 42",
        r"\boxed{42}",
        "<answer>42</answer>",
        "= 42",
    ):
        for text in (f"{said}{end}", f"{said} {end}\n", f"{said}\n{end}{end}", f"{end}{said}{end} #### 7 {end}"):
            assert grade(text, "42") is RIGHT, text
    assert reference_answer(f"6*7=42\n#### 42{end}") == "42"
    assert reference_answer(f"The answer is 42.{end}") == "42."[:2]
    assert grade("#### 42", f"42{end}") is RIGHT
    assert same_answer(rf"\sqrt{{4}}x{end}", f"2x {end}") is RIGHT


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>user\nThe answer is 7?<|im_end|>\n<|im_start|>assistant\nIt is 42<|im_end|>",
        "<s>[INST] #### 7 [/INST] It is 42</s>",
        "<|start_header_id|>user<|end_header_id|>\n\n7<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n42<|eot_id|>",
        "<start_of_turn>user\n\\boxed{7}<end_of_turn>\n<start_of_turn>model\n42<end_of_turn>",
        "<|channel|>analysis<|message|>\\boxed{7}<|end|><|start|>assistant<|channel|>final<|message|>42<|return|>",
        "<\uff5cUser\uff5c>7<\uff5cAssistant\uff5c>42<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<|begin_of_thought|>\\boxed{7}<|end_of_thought|><|begin_of_solution|>#### 42<|end_of_solution|>",
        "#### 42<|im_end|>\n<|im_start|>user\nThe answer is 7<|im_end|>",
        "The answer is <|begin_of_box|>42<|end_of_box|>",
        "<think>\\boxed{7}</think>\n42",
    ],
)
def test_only_what_the_model_said_itself_counts(text: str) -> None:
    assert grade(text, "42") is RIGHT
    assert grade(text, "7") is WRONG


def test_what_only_looks_like_a_mark_stays() -> None:
    for text in ("0<|x|<3", "<<6*7=42>>42", "a<b and c>d", "[1, 2]", "x < y > z", r"\langle 1, 2\rangle"):
        assert own_words(text) == text


@pytest.mark.parametrize(
    "part",
    [
        *ENDS,
        "<|",
        "|>",
        "<|begin_of_box|>",
        "<answer>",
        "</answer>",
        "<|im_start|>user\n",
        "[INST]",
        "<|channel|>final",
    ],
)
def test_many_marks_take_no_time(part: str) -> None:
    for text in (part * (100_000 // len(part)), "x" + part * (100_000 // len(part)) + "x"):
        start = time.process_time()
        extract(text)
        reference_answer(text)
        assert time.process_time() - start < 1.0
