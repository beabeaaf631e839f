"""An answer is found where a text states it, and only there."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from curate import verify
from curate.verify import extract, grade, grade_many, reference_answer, same_answer
from tests import ROOT
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG

HOSTILE = [
    "",
    " \n\t",
    "\x00\x01\x02",
    "\ud800",
    "\\boxed{\ud800}",
    "####",
    "#### \x00",
    "answer is" * 1000,
    "\\boxed{" * 1000,
    "{" * 5000,
    "(" * 1900,
    "\n" * 200_000,
    "answer " * 50_000,
    "*" * 100_000,
    "#### x\n" * 20_000,
    "9" * 1_000_000,
    "1," * 50_000,
    "$" * 10_000,
    "\\frac" * 400,
    "\u0665",
    "9^" * 500 + "9",
]


# -- where an answer stands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        ("6*7=42\n#### 42", "42", "marker"),
        ("#### Step 1: add\n5 + 5\n#### 10", "10", "marker"),
        ("#### 42\n\nQuestion: what else?", "42", "marker"),
        ("#### Evelyn", "Evelyn", "marker"),
        ("#### Step 1: add 5\nThe answer is 6.", "6", "phrase"),
        (r"so $\boxed{\frac{1}{\sqrt{2}}}$.", r"\frac{1}{\sqrt{2}}", "boxed"),
        (r"\boxed{1}, no, \boxed{2}", "2", "boxed"),
        (r"\fbox{3}", "3", "boxed"),
        (r"\boxed 5", "5", "boxed"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}", "boxed"),
        (r"\boxed{7}. The answer is 8", "7", "boxed"),
        ("The answer is 18.", "18", "phrase"),
        ("The answer is 3.5. Then 7 remain.", "3.5", "phrase"),
        ("The answer is 3. No: the answer is 4.", "4", "phrase"),
        ("The answer is $18.", "$18", "phrase"),
        (r"The answer is $\frac{3}{4}$.", r"\frac{3}{4}", "phrase"),
        (r"The answer is \(x=5\).", "x=5", "phrase"),
        ("final answer: 1,234 dollars", "1,234 dollars", "phrase"),
        ("**Answer:** **42**", "42", "phrase"),
        ("Final answer:\n42", "42", "phrase"),
        ("answer: (B)", "(B)", "phrase"),
        ("ANSWER:D", "D", "phrase"),
        ("Answer B", "B", "phrase"),
        ("Answer - D", "D", "phrase"),
        ("option E", "E", "phrase"),
        ("the correct answer is answer4", "answer4", "phrase"),
        ("= 25\nD", "D", "choice"),
        ("so D is the correct answer", "D", "choice"),
        ("x**2 + 3*x", "x**2 + 3*x", "whole"),
        ("False", "False", "whole"),
        ("There are 12 dogs and then 7,000 cats in all", "7,000", "number"),
        ("it falls from four degrees to -5 degrees", "-5", "number"),
        ("So they earn 3 + 5 = 8 dollars in all.", "8", "number"),
        ("So she has **8** apples in all now", "8", "number"),
        ("so the last one of them is number (8).", "8", "number"),
        ("so 50 percent of them are left", "50 percent", "number"),
        ("#### 1.\nfirst\n#### 2.\nsecond\n\\boxed{7}", "7", "boxed"),
        ("#### 5\nOh wait, \\boxed{7}", "7", "boxed"),
        ("\\boxed{7}\n#### 5", "5", "marker"),
        ("\\boxed{7}\n#### Step 2", "7", "boxed"),
        ("\\boxed{7}\n#### 2.\nand so on", "7", "boxed"),
        ("\\boxed{7}\n#### 8.", "8.", "marker"),
        ("the answer is that John has 5 apples left", "5", "number"),
        ("<think>the answer is 5</think>The answer is 6", "6", "phrase"),
        ("the answer is 5</think>\n\\boxed{6}", "6", "boxed"),
    ],
)
def test_extract(text: str, answer: str, how: str) -> None:
    found = extract(text)
    assert found is not None
    assert (found.text, found.how) == (answer, how)
    assert found.strong == (how != "number")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no number at all in this text",
        r"\boxed{1} so \boxed{\frac{1",
        "#### 5 but \\boxed{",
        r"\boxed{}",
        "5 + 5 = 10. The answer is",
        "<think>5 + 5 = 10",
        "5 + 5 = 10</think>",
    ],
)
def test_a_text_that_stops_or_says_nothing_has_no_answer(text: str) -> None:
    assert extract(text) is None
    assert grade(text, "10") is UNDECIDED


def test_nothing_of_one_text_is_found_in_the_next() -> None:
    texts = [r"\boxed{1}", "nothing here at all", "The answer is 2.", r"\boxed{", "#### 3", ""]
    alone = [subprocess_extract(text) for text in texts[:2]] + [extract(text) for text in texts[2:]]
    assert [extract(text) for text in texts] == alone
    assert grade_many([(text, "1") for text in texts]) == [RIGHT, UNDECIDED, WRONG, UNDECIDED, WRONG, UNDECIDED]


def subprocess_extract(text: str) -> verify.ExtractedAnswer | None:
    """`extract` in a process that has seen no other text."""
    code = (
        f"import curate.verify as v; found = v.extract({text!r}); print(*(found and (found.text, found.how) or 'NN'))"
    )
    answer, how = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    return None if answer == "N" else verify.ExtractedAnswer(answer, how)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_any_text_is_read_in_no_time(text: str) -> None:
    assert same_answer("x+1", "1+x") is RIGHT  # a worker that starts first takes as long as the machine is busy
    start = time.perf_counter()
    extract(text)
    reference_answer(text)
    assert grade(text, "5") is not RIGHT
    assert same_answer(text[:5000], "5", wall_seconds=0.5) is not RIGHT
    assert same_answer("5", text[:5000], wall_seconds=0.5) is not RIGHT
    assert time.perf_counter() - start < 8.0


def test_reference_answers_are_marked() -> None:
    assert reference_answer("5 + 5 = 10\n#### 10") == "10"
    assert reference_answer(r"so $\boxed{10}$") == "10"
    assert reference_answer("5 + 5 = 10\nThe answer is 10.") == "10"
    assert reference_answer("**Final answer:**\n10") == "10"
    assert reference_answer("The answer is 10 so far.\nBut 5 more are 15.") is None
    assert reference_answer("5 + 5 = 10") is None
    assert reference_answer("m+n=80.0 ; m-n=12.0") is None
    assert reference_answer("") is None


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        ("<answer>42</answer>", "42", "tag"),
        ("<answer>The answer is 42.</answer>", "42", "tag"),
        ("<ANSWER> 42 </ANSWER>", "42", "tag"),
        (r"<answer>\boxed{42}</answer>", "42", "boxed"),
        ("<answer>#### 42</answer>", "42", "marker"),
        ("<final_answer>42</final_answer>", "42", "tag"),
        ("<answer>1</answer> no: <answer>42</answer>", "42", "tag"),
        (r"\boxed{1} <answer>42</answer>", "42", "tag"),
        (r"<answer>1</answer> \boxed{42}", "42", "boxed"),
        ("I use <answer> tags. <answer>42</answer>", "42", "tag"),
        ("<answer>x = 3 + 4 = 7</answer>", "7", "tag"),
        ("<answer>(3, 5)</answer>", "(3, 5)", "tag"),
        ("<answer>\n42\n</answer>\nDone.", "42", "tag"),
        ("Total: 1,000,000", "1,000,000", "whole"),
        ("**Total:** 12", "12", "whole"),
        ("Therefore 3 x 4 = 12", "12", "whole"),
        ("= 12", "12", "whole"),
        ("3 + 4 = 7", "7", "whole"),
        ("x = 3 + 4 = 7", "7", "whole"),
        ("So, 12.", "12.", "whole"),
        ("2x + y = 5", "2x + y = 5", "whole"),
        ("Profit = $200,000 - $130,000 = **$70,000**", "**$70,000**", "whole"),
        ("x = 12", "x = 12", "whole"),
        ("So x <= 5", "x <= 5", "whole"),
        ("3 + 4 = 7 #### 7", "7", "marker"),
        ("##### 5\n#### 7", "7", "marker"),
        ("## Answer\n7", "7", "phrase"),
        ("**Answer**\n7", "7", "phrase"),
        ("### Final Answer\n\n$\\frac{1}{2}$", r"\frac{1}{2}", "phrase"),
        ("**Final Answer**\n\n**7**", "7", "phrase"),
        ("### Response: 42", "42", "whole"),
        ("### Solution\n42", "42", "number"),
        ("5% of 200 = 10", "10", "number"),
        ("(7 (quarter)*25)/100 = 1.75 (dollar)", "1.75 (dollar)", "whole"),
        ("The answer is 42.\n\nQuestion: What is 3+4?\nThe answer is 7.", "42", "phrase"),
        ("#### 42\n\nQ: and now?\nA: #### 7", "42", "marker"),
        ("The answer is 42.\n\n### Instruction:\nAdd.\n\\boxed{7}", "42", "phrase"),
        ("Question: the price is 7.\nThe answer is 42.", "42", "phrase"),
        (r"First \boxed{1}, then \boxed{42}", "42", "boxed"),
        ("#### 1\n#### 42", "42", "marker"),
        ("The answer is 1. Wait, the answer is 42.", "42", "phrase"),
    ],
)
def test_where_an_answer_is_marked(text: str, answer: str, how: str) -> None:
    found = extract(text)
    assert found is not None
    assert (found.text, found.how) == (answer, how)


@pytest.mark.parametrize(
    "text",
    ["<answer>", "<answer></answer>", "<answer>4", "<answer>1</answer> so <answer>4", "so we have 42...", "</s>"],
)
def test_what_stops_or_is_empty_has_no_answer(text: str) -> None:
    assert extract(text) is None


@pytest.mark.parametrize(
    "text",
    [
        r"It is $\frac{2}{3}$ of it all.",
        r"the area is $25\pi$.",
        "we get 3 + 5",
        "the first of them has 5 - 3 apples",
        "we get 3 x 5 for it",
        r"we get $3 \times 5$",
        "the value is 3e5",
        "So we have 5 dozen",
        "We see that it is 5 thousand",
        r"We see that it is $5 \text{ thousand}$",
        "We see that it grows to 2^10",
        "We see that it grows to x_2",
        r"we see that it is \sqrt{2} or \sqrt 2",
        "so it becomes 3x in the end",
        "there are so many of them, 12!",
        "it happened at 10:30 in the end",
        "it is a 3-digit number that we want",
        "So x is (3, 5) for the point",
        "So he needs 2 hours 30 minutes",
    ],
)
def test_a_number_that_is_part_of_something_is_no_answer(text: str) -> None:
    assert extract(text) is None


@pytest.mark.parametrize("said", [r"\boxed{5}", "#### 5", "<answer>5</answer>", "The answer is 5", "**Answer:** 5"])
@pytest.mark.parametrize(
    "back",
    [
        "\nNo, 6.",
        ".\n\nWait, that is wrong: it is 6.",
        ". Correction: 6.",
        ".\n\nOn second thought, 6",
        ".\nOops, I made a mistake.",
    ],
)
def test_an_answer_that_is_taken_back_is_none_until_another_is_given(said: str, back: str) -> None:
    if not (said.startswith("#") and back[0] == "."):  # there it would be part of the line
        assert extract(said + back) is None
        again = extract(f"{said}{back}\n\nSo the answer is 7.")
        assert again is not None
        assert again.text == "7"
    kept = extract(f"We waited.\n{said}\n\nThe other one has no apples, and was wrong to wait.")
    assert kept is not None
    assert kept.text == "5"
    assert extract("The answer is 5? It may be.") is None


@pytest.mark.parametrize("part", [" ", "\n", " \n", "\\", "{", "}", "#", "9", "(", ")", "*", "$", ".", ",", "A\n"])
def test_long_runs_are_read_in_no_time(part: str) -> None:
    for head in ("", "option", "answer", "The answer is $1", r"\boxed"):
        start = time.process_time()
        extract(head + part * (100_000 // len(part)) + "x")
        assert time.process_time() - start < 0.5


def test_the_earlier_name_of_an_extracted_answer_warns() -> None:
    with pytest.warns(FutureWarning, match="ExtractedAnswer"):
        assert verify.Found is verify.ExtractedAnswer
