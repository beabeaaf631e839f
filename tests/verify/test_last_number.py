"""Words and signs around a number that make another number of it, and those that say nothing, in several languages."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from curate.verify import Verdict, extract, grade, grade_many, reference_answer, same_answer

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


def split(texts: str) -> list[str]:
    return [text.strip() for text in re.split(r" \| |\n", texts) if text.strip()]


# What makes another number of it, gives a second one, or only names it; some with number words.
OTHERWISE = """
!7 | ! 7 | \u203c7 | 7 ! | 7# | \u00a77 | @7 | sqrt 7 | cbrt 7 | exp 7 | cis 7 | 5 cis 7 | tanh 7
the subfactorial of 7 | the logarithm of 7 | the sine of 7 | f at 7 | one in 7 | two out of 7 | six to 7 | five point 7
one hundred and 7 | n or 7 | 7 n | 7 to the n | 7 to the fourth | 7 in ten | 7 or nine | 7, nine | six : 7
either 6 apples or 7 | between 6 cm and 7 cm | from 6 cm to 7 cm | 6 cm by 7 cm | 6 pounds, 7 ounces
six hours and 7 minutes | five feet 7 inches | 6 as well as 7 | 6 vs. 7 | 6 & 7 | 5, 6, 7 | 5; 6; 7 | 6, maybe 7
6 for A and 7 for B | 6 for A, 7 for B | six for A and 7 for B | 7 for A and nine for B
6 in March but 7 in April | 6 if x is even and 7 if x is odd | 6 and Ann has 7 | 6 apples while Ann has 7
6, Ann has 7 | 6 and Ann 7 | 3*2=6 apples and Ann has 3+4=7 | 7. Wait, that is wrong. | 7, no wait
7. But this is incorrect. | 8 instead of 7 | 8, unlike Bob with 7 | close to 7 | as many as 7 | 7 at most
7 or so | 7 if she sells one | 7 perhaps | half past 7
"""
NAMED = [
    "See step 7",
    "As in equation (7)",
    "Suppose she has 7",
    "I doubt that she has 7",
    "Nobody has 7",
    "What if it is 7",
]
LISTS = [
    "Tom: 6\nAnn: 7",
    "- **Tom**: 6\n- **Ann**: 7",
    "a) 6\nb) 7",
    "x = 6\ny = 7",
    "Part a) 6 Part b) 7",
    "Mean = 6, median = 7",
]


@pytest.mark.parametrize("words", split(OTHERWISE))
def test_a_number_beside_others_is_no_answer(words: str) -> None:
    for sentence in ("So she has {}", "In the end it is {}"):
        assert grade(sentence.format(words), "7") is not Verdict.right


@pytest.mark.parametrize("text", [*NAMED, *LISTS])
def test_a_number_that_is_named_supposed_or_listed_is_no_answer(text: str) -> None:
    assert grade(text, "7") is not Verdict.right


PLAIN = """
So Tom has 7 apples | There are 12 dogs and 7 cats in all | She had 12 and gave away 5, so she has 7
She had 12, gave away 5, and now has 7 left | She had 12 and gave away 5, leaving 7 | Adding 3 and 4 gives 7
The sum of 3 and 4 is 7 | In 3 days, she reads 7 books | With 3 friends, she has 7
Since 5 of them left, 7 remain | Tom has 3 and Ann has 4, so together they have 7
Tom has 3, Ann has 4, together 7 | They sold 3 in May and 4 in June, a total of 7
Tom has 3*2=6 apples, and Ann has 1, so 6+1=7 | Tom has 3*2=6 apples and Ann adds 1, so he has 6+1=7
The limit is equal to 7 | She has not sold any, so she has 7 | If she buys 3 more, she has 7
The price rises from six dollars to 7 dollars | She got 7, as expected | Great! 7 apples are left
The 5 boxes weigh 7 pounds | He earns 7 dollars an hour | She got 7, one more than Bob
He was not able to hit 3 + 4 = 7 of them | The area is 7 square feet | A total of 7
Of the 12 birds, 7 are left | He had to pay $7 | Each of the three children gets 7 apples
The temperature rose to 7 degrees | Then 3 apples + 4 apples = 7 apples
"""


@pytest.mark.parametrize("text", [*split(PLAIN), "Apples: 3\nTotal: 7"])
def test_plain_last_numbers_stay_right(text: str) -> None:
    assert grade(text, "7") is Verdict.right
    assert grade(text, "8") is Verdict.wrong


def test_solutions_of_people_keep_their_answers(shared_data: Path) -> None:
    """Sentences that nobody wrote for these rules; where the last number is the answer it is nearly always found."""
    import pyarrow.parquet as pq

    solutions = pq.read_table(shared_data / "gsm8k.parquet").slice(0, 1500).to_pylist()
    pairs = [(re.sub("<<.*?>>", "", row["answer"].split("####")[0]), row["final_answer"]) for row in solutions]
    found = Counter(grade_many(pairs))
    assert found[Verdict.right] >= 0.94 * len(pairs)
    assert found[Verdict.undecided] <= 0.035 * len(pairs)
