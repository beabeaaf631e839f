"""Words and signs around a number that make another number of it, and those that say nothing, in several languages."""

from __future__ import annotations

import pytest

from curate.verify import Verdict, extract, grade, reference_answer, same_answer

SENTENCES = ["Then they have {} in the end", "Then we all see that she got {}", "Then they have {}"]


@pytest.mark.parametrize(
    "words",
    [
        *["5 millones", "5 Millionen", "5 milhões", "5 mil", "5 mille", "5 tysiące", "5 lakh", "5 crore", "5 mln"],
        *["5 quadrillion", "5 grand", "5 milliards", "5 permil", "5 тысяч", "5 млн", "5万", "5億", "5천"],
        *["5⅔", "5⁴", "10⁵ + 5⁻³", "5₂", "5π", "5√2", "√5", "5‰", "5 hours and a half", "5 euros y medio"],
        *["negative 5", "minus 5", "menos 5", "log 5", "the root of 5", "half of 5", "more than 5", "负5", "−5"],
        *[
            "twice 5",
            "the reciprocal of 5",
            "8 divided by 5",
            "1\u20135",
            "\u20135",
            "\u22655",
            "1 005",
            "base 5",
            "up to 5",
        ],
        *["8 choose 5", "5 or more", r"$\log_3 5$", "all but 5", "below 5", "1 through 5"],
        *["not 5", "no more than 5", "not exactly 5", "2 or 5", "x = 2 and y = 5", "x=2, y=5"],
    ],
)
def test_words_and_signs_that_change_a_number_are_heeded(words: str) -> None:
    for sentence in SENTENCES:
        assert grade(sentence.format(words), "5") is not Verdict.right


@pytest.mark.parametrize(
    "text", ["It isn't 5", "The answer cannot be 5", "La respuesta no es 5.", "答案不是5", "大于5"]
)
def test_what_is_denied_is_no_answer(text: str) -> None:
    assert grade(text, "5") is not Verdict.right


@pytest.mark.parametrize(
    "text",
    [
        *[
            "答案是42。",
            "答案：42",
            "Ответ: 42",
            "答えは42です。",
            "답은 42입니다.",
            "A resposta é 42.",
            "共有42个苹果。",
        ],
        *["So... 42", "The answer is... 42", "=> 42", "→ 42", "∴ 42", "It's 42.", "That is 42.", "Ans. 42"],
        *["40+2=<<40+2=42>>42", "She has 40+2=<<40+2=42>>42 apples.", "The answer is 42, because 40 + 2 is that."],
        *["## Answer\nThe total is 42.", "Answer\n---\n42", "Answer:\n\n```\n42\n```", "## Answer ##\n42"],
        *["<answer>So the total is 42.</answer>", '<answer type="int">42</answer>', "<ans>42</ans>"],
        *[r"\boxed{42\,}", r"\boxed{\ 42\ }", r"\boxed{\boldsymbol{42}}", r"\boxed{\bm{42}}", r"\boxed{\bf 42}"],
        *["42 km/h", "42¢", "Rs. 42", "The answer is Rs. 42.", "42 times", "42 square units", "42 °C"],
    ],
)
def test_answers_that_are_plainly_there(text: str) -> None:
    assert grade(text, "42") is Verdict.right
    assert grade(text, "41") is Verdict.wrong


@pytest.mark.parametrize(
    "text", ["Option B is correct.", "So the correct choice is **B**.", "The answer is B because 5 > 3"]
)
def test_a_letter_that_is_plainly_chosen(text: str) -> None:
    assert grade(text, "B") is Verdict.right
    assert grade(text, "A") is Verdict.wrong


@pytest.mark.parametrize(
    "mark",
    [
        *[
            "[|endofturn|]",
            "<reserved_106>",
            "<eoa>",
            "[UNUSED_TOKEN_145]",
            "[/s]",
            "[end of text]",
            "<eot_id>",
            "<end>",
        ],
        *["[SEP]", "<|stop|>", "<|endofuser|>", "<|end_of_document|>", "<|reserved_special_token_0|>", "</assistant>"],
    ],
)
def test_marks_of_the_end_of_more_families(mark: str) -> None:
    assert grade(f"The answer is 7{mark}The answer is 8", "7") is Verdict.right
    assert reference_answer(f"3 + 4 = 7\n#### 7{mark}") == "7"
    assert grade(f"The answer is B.{mark}", "B") is Verdict.right


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 mph", "5 miles per hour"),
        (r"\boldsymbol{5}", "5"),
        (r"\textcolor{red}{5}", "5"),
        ("5 ℃", "5 degrees Celsius"),
    ],
)
def test_what_is_written_in_another_way_is_right(one: str, other: str) -> None:
    assert same_answer(one, other) is Verdict.right


@pytest.mark.parametrize(
    ("one", "other"),
    [("5°C", "5°F"), ("3 pm", "3"), ("5 BC", "5"), ("20", "V_5^2"), ("210", r"\binom 10 4"), ("10", "5Cr2")],
)
def test_what_may_be_the_same_is_never_wrong(one: str, other: str) -> None:
    assert same_answer(one, other) is Verdict.undecided


def test_an_item_of_a_list_is_no_negative_number() -> None:
    assert extract("## Answer\n- 7") is None
