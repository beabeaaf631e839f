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


# -- where an answer stands ---------------------------------------------------------------------------------------


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


def subprocess_extract(text: str) -> verify.Found | None:
    """`extract` in a process that has seen no other text."""
    code = (
        f"import curate.verify as v; found = v.extract({text!r}); print(*(found and (found.text, found.how) or 'NN'))"
    )
    answer, how = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    return None if answer == "N" else verify.Found(answer, how)  # type: ignore[arg-type]


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
