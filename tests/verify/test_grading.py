"""Answers: found where a text states them, compared exactly, and undecided rather than guessed."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from curate import verify
from curate.errors import ExternalError, InputError
from curate.verify import Verdict, close_workers, extract, grade, grade_many, reference_answer, same_answer
from curate.verify.numbers import Plain, plain_number
from curate.verify.symbolic import Worker, workers
from tests import ROOT

RIGHT, WRONG, UNDECIDED = Verdict.right, Verdict.wrong, Verdict.undecided
# Takes SymPy minutes; in nothing but one polite integral.
HANGS = r"\int_0^1 \sin(\cos(x^{99}+e^{x^{88}}))^{77} dx"
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


@pytest.fixture(autouse=True, scope="module")
def _no_worker_is_left() -> Iterator[None]:
    yield
    close_workers()


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


# -- plain numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("18", "18", ""),
        ("18.00", "18", ""),
        ("-18", "-18", ""),
        ("\u221218", "-18", ""),
        ("+18", "18", ""),
        (".5", "1/2", ""),
        ("3/4", "3/4", ""),
        ("-3/4", "-3/4", ""),
        ("1 3/4", "7/4", ""),
        ("-1 3/4", "-7/4", ""),
        (r"\frac{3}{4}", "3/4", ""),
        (r"-\dfrac{3}{4}", "-3/4", ""),
        (r"\frac{-3}{4}", "-3/4", ""),
        (r"\frac34", "3/4", ""),
        (r"1\frac{3}{4}", "7/4", ""),
        ("1,234,567.5", "1234567.5", ""),
        (r"10,\!000", "10000", ""),
        ("10{,}000", "10000", ""),
        ("1.5e3", "1500", ""),
        ("2E-2", "1/50", ""),
        (r"1.5 \times 10^{3}", "1500", ""),
        ("2 x 10^5", "200000", ""),
        ("**42**", "42", ""),
        ("$42$", "42", ""),
        ("42.", "42", ""),
        ("3 million", "3000000", ""),
        ("$18", "18", "dollar"),
        ("-$18", "-18", "dollar"),
        (r"\$18.90", "18.9", "dollar"),
        ("18 dollars", "18", "dollar"),
        ("$1.5 million", "1500000", "dollar"),
        ("5 km", "5", "kilometer"),
        ("5km", "5", "kilometer"),
        ("18 square feet", "18", "square foot"),
        (r"10\text{ cm}^2", "10", "centimeter 2"),
        (r"90^\circ", "90", "degree"),
        ("50%", "50", "%"),
        (r"50\%", "50", "%"),
        ("1011_2", "1011", "base 2"),
    ],
)
def test_plain_numbers(text: str, value: str, unit: str) -> None:
    found = plain_number(text)
    assert found is not None
    assert (found.value, found.unit) == (Fraction(value), unit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "3x",
        "3 x",
        "5m",
        "1,23",
        "12,34,567",
        "9/0",
        "1e99999",
        "18 and a half",
        "2 pi",
        "7 dozen",
        "--5",
        "(5)",
        "5 more than 3",
        "1 5/3",
        "1 000",
        "3 hours and 5 minutes",
        "5 plus x",
        "9" * 2000,
        "2^{10}",
        "5:30",
    ],
)
def test_what_is_no_plain_number(text: str) -> None:
    assert plain_number(text) is None


def test_numbers_that_are_equal_as_fractions_are_right_and_others_wrong() -> None:
    rng = random.Random(0)
    for _ in range(300):
        value = Fraction(rng.randint(-(10**6), 10**6), rng.choice([1, 2, 4, 5, 8, 10, 100]))
        other = value + Fraction(rng.choice([-1, 1]), 100 * rng.choice([1, 2, 5]))
        spelled = [f"{v.numerator}/{v.denominator}" for v in (value, other)]
        decimal = [f"{float(v):,.5f}" for v in (value, other)]
        assert same_answer(spelled[0], decimal[0]) is same_answer(decimal[0], f"{spelled[0]} dollars") is RIGHT
        assert same_answer(spelled[1], decimal[0]) is same_answer(decimal[1], spelled[0]) is WRONG


def test_digits_beyond_a_float_count() -> None:
    assert same_answer("10000000000000000000001", "10000000000000000000002") is WRONG
    assert same_answer("0.1e-300", "1e-301") is RIGHT
    assert same_answer("0.30000000000000001", "0.3") is WRONG


# -- the rules that the package states ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "answer", "verdict"),
    [
        ("$18", "18.00", RIGHT),
        ("18 apples", "18 dollars", UNDECIDED),
        ("5 km", "5000 m", UNDECIDED),
        ("5 kilometers", "5 km", RIGHT),
        ("50%", "0.5", RIGHT),
        ("50%", "50", RIGHT),
        ("50", "50%", RIGHT),
        ("0.5", "50", WRONG),
        ("50%", "51", WRONG),
        ("1%", "1", UNDECIDED),
        ("0.33", "1/3", UNDECIDED),
        ("33.33%", "1/3", UNDECIDED),
        ("0.34", "1/3", WRONG),
        ("3", "2.9", WRONG),
        (r"3.14", r"\pi", UNDECIDED),
        (r"3.15", r"\pi", WRONG),
        ("1011_2", "1011", RIGHT),
        ("1011_2", "1011_3", UNDECIDED),
        ("34, 46", "46, 34", RIGHT),
        ("46 and 34", "34, 46", RIGHT),
        ("x = 34, y = 46", "46, 34", RIGHT),
        ("34, 45", "46, 34", WRONG),
        ("{1,2}", "2, 1", RIGHT),
        (r"\{1,2\}", r"\{2,1\}", RIGHT),
        ("1, 1, 2", "1, 2, 2", WRONG),
        ("1, 1, 2", "1, 2", WRONG),
        (r"\{1,1,2\}", r"\{1,2\}", RIGHT),
        ("1", "1, 2", WRONG),
        ("1,234", "1234", RIGHT),
        ("(1, 2)", "(1,2)", RIGHT),
        ("(2, 1)", "(1, 2)", WRONG),
        ("(1,2]", "(1,2]", RIGHT),
        ("(1,2]", "[1,2]", WRONG),
        ("(1, 2)", "1, 2", UNDECIDED),
        ("(3,4), (1,2)", "(1, 2), (3, 4)", RIGHT),
        ("(1/2, 0.25)", r"(\frac{1}{2}, \frac14)", RIGHT),
        ("x = 5", "5", RIGHT),
        ("5", "x=5", RIGHT),
        ("y=5", "x=5", WRONG),
        ("(B) 18", "B", RIGHT),
        ("(B) 18", "18", RIGHT),
        ("b", "B", RIGHT),
        (r"\text{(B)}", "B", RIGHT),
        ("C", "B", WRONG),
        ("18", "B", UNDECIDED),
        ("answer4", "answer4", RIGHT),
        ("answer 4", "answer3", WRONG),
        ("4", "answer4", UNDECIDED),
        ("true", "True", RIGHT),
        ("True", "False", WRONG),
        ("Evelyn", r"\text{evelyn}", RIGHT),
        ("Evelyn", "Briana", UNDECIDED),
        ("the second one of them", "5", UNDECIDED),
        ("", "5", UNDECIDED),
        ("2x+", "2x", UNDECIDED),
        ("12th", "12", UNDECIDED),
        ("3 of 4", "3", UNDECIDED),
        ("n", "N", WRONG),
        ("5" + " " * 3000 + "5", "5", UNDECIDED),
        ("9^{9^{9^9}}", "5", UNDECIDED),
        ("((10!)!)!", "5", UNDECIDED),
        ("10**99999999", "5", UNDECIDED),
    ],
)
def test_rules(candidate: str, answer: str, verdict: Verdict) -> None:
    assert same_answer(candidate, answer) is verdict


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


@pytest.mark.parametrize(
    "text",
    [
        "6 boys 3 girls", "5 feet 3 inches", "2 hours 3 minutes", "7 rem 2", "2 weeks 3", "3 ft 2", "2 out of 3",
        "1 in 3", "3 fourths", "2 fifths", "3 eighths", "5 degrees below zero", "3 a", "2 h", "5k", "10 m 3",
    ],
)  # fmt: skip
def test_what_follows_a_number_may_be_no_unit(text: str) -> None:
    assert plain_number(text) is None
    first = text[0] if text[1] != "0" else "10"
    for bare in (first, "17", "2/3", "1/3", "3/4", "2/5", "3/8", "-5", "5000"):
        assert same_answer(text, bare) is same_answer(bare, text) is UNDECIDED


@pytest.mark.parametrize("text", ["10 cm2", "10 cm^2", "10 feet^{2}", "10 square feet", "10 m", "10 L", "10 in"])
def test_units_may_have_an_exponent(text: str) -> None:
    assert same_answer(text, "10") is RIGHT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ab", "AB"), ("mn", "MN"), ("abcd", "ABCD"), ("2N", "2n"), ("A+B", "a+b"), (r"2\pi r", r"2 \pi R"),
        ("x'", "x"), ("f^{-1}(x)", "1/f(x)"), ("3 1", "31"), ("3 1", "4"), ("1 2 3", "6"), ("12 34", "1234"),
        ("10:30 am", "1/3"), ("12:30", "0.4"), ("1,234", "1, 234"), ("2(3)", "5"), ("(2)(3)", "5"),
        ("2/3*x", r"\frac{2}{3x}"),
    ],
)  # fmt: skip
def test_what_only_looks_alike_is_not_right(one: str, other: str) -> None:
    assert same_answer(one, other) is not RIGHT
    assert same_answer(other, one) is not RIGHT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sin 30^\circ", "1/2"), (r"30^\circ", r"\pi/6"), (r"2/3\pi", r"\frac{2\pi}{3}"), ("2 x 3", "6"),
        ("2<x<3", "3>x>2"), (r"\{x|x>2\}", r"(2,\infty)"), ("x<2 or x>3", r"(-\infty,2)\cup(3,\infty)"),
        (r"\lim_{x\to0} \sin x / x", "1"), ("101_2", "5"), ("{1, 1.0}", "{1}"), ("5k", "5000"),
        ("y = 1/x", "xy = 1"), ("2*(3)", "6"), ("2/3*x", r"\frac{2x}{3}"), ("6 m 2 cm", "602 cm"),
    ],
)  # fmt: skip
def test_what_may_be_the_same_is_not_wrong(one: str, other: str) -> None:
    assert same_answer(one, other) is not WRONG
    assert same_answer(other, one) is not WRONG


def test_what_is_certainly_different_is_still_wrong() -> None:
    for one, other in [
        ("101_2", "6"), ("(1, 2)", "5"), ("{1, 1.0}", "{1, 2}"), ("y = 2x+3", "y = 2x+4"),
        (r"1\pm\sqrt{2}", r"1\pm\sqrt{3}"),
    ]:  # fmt: skip
        assert same_answer(one, other) is same_answer(other, one) is WRONG


@pytest.mark.parametrize("part", [" ", "\n", " \n", "\\", "{", "}", "#", "9", "(", ")", "*", "$", ".", ",", "A\n"])
def test_long_runs_are_read_in_no_time(part: str) -> None:
    for head in ("", "option", "answer", "The answer is $1", r"\boxed"):
        start = time.process_time()
        extract(head + part * (100_000 // len(part)) + "x")
        assert time.process_time() - start < 0.5


def test_the_order_of_lists_counts_where_asked() -> None:
    assert same_answer("2, 1", "1, 2", ordered=True) is WRONG
    assert same_answer("1, 2.0", "1, 2", ordered=True) is RIGHT
    assert same_answer("{2, 1}", "1, 2", ordered=True) is RIGHT


@pytest.mark.parametrize(
    ("candidate", "answer", "verdict"),
    [
        ("(x+1)(x-1)", "x^2-1", RIGHT),
        ("x+2", "x+1", WRONG),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", RIGHT),
        ("2*sqrt(3)", r"\sqrt{12}", RIGHT),
        ("-12*b**3*s - 1980*b**2*s", "-12b^3s-1980b^2s", RIGHT),
        ("b^3 s", "b^3", WRONG),  # a variable, not seconds
        (r"10\sqrt{3}\text{ cm}", r"10\sqrt{3}", RIGHT),
        (r"10\sqrt{3}\text{ cm}", r"10\sqrt{3}\text{ inches}", UNDECIDED),
        ("10^{-20}x", r"2\cdot 10^{-20}x", WRONG),
        ("0.1x", r"\frac{x}{10}", RIGHT),
        ("2+3i", "3i+2", RIGHT),
        ("i^2", "-1", RIGHT),
        (r"e^{i\pi}", "-1", RIGHT),
        (r"(-\infty,-1)\cup(2,5)", r"(-\infty,-1)\cup(2,5]", WRONG),
        (r"1\pm\sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}", RIGHT),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}", WRONG),
        (r"\begin{pmatrix}1/2\\2\end{pmatrix}", r"\begin{pmatrix}\frac12\\2\end{pmatrix}", RIGHT),
        ("y = 2x+3", "y=3+2x", RIGHT),
        (r"\sin^2 x+\cos^2 x", "1", RIGHT),
    ],
)
def test_algebra(candidate: str, answer: str, verdict: Verdict) -> None:
    assert same_answer(candidate, answer) is verdict


def test_a_weak_find_decides_only_about_numbers() -> None:
    text = "There are 12 dogs and 7 cats in all"
    assert grade(text, "7") is RIGHT
    assert grade(text, "8") is WRONG
    assert grade(text, r"\sqrt{2}") is UNDECIDED
    assert grade(text, "Evelyn") is UNDECIDED
    assert grade(text, "7", strong_only=True) is UNDECIDED
    assert grade_many([(text, "7")], strong_only=True) == [UNDECIDED]


def test_many_are_graded_as_one_is() -> None:
    pairs = [(rf"\boxed{{{k % 7}x + {k % 3}}}", f"{k % 3}+{k % 5}x") for k in range(60)] + [
        ("no", "1"),
        ("#### 2", "2"),
    ]
    alone = [grade(*pair) for pair in pairs]
    assert grade_many(pairs) == alone == grade_many(pairs, processes=2)
    assert set(alone) == set(Verdict)
    assert grade_many([]) == []
    with pytest.raises(InputError, match="processes=0"):
        grade_many(pairs, processes=0)


# -- faults of the worker -----------------------------------------------------------------------------------------


def test_one_that_hangs_is_undecided_and_delays_the_others_by_its_limit_only() -> None:
    easy = [(rf"\boxed{{x+{k}}}", f"{k}+x") for k in range(10)]
    assert set(grade_many(easy)) == {RIGHT}
    start = time.perf_counter()
    verdicts = grade_many([*easy[:5], (rf"\boxed{{{HANGS}}}", "1"), *easy[5:]], wall_seconds=1.0)
    assert time.perf_counter() - start < 1.0 + 2.0
    assert verdicts == [RIGHT] * 5 + [UNDECIDED] + [RIGHT] * 5


def test_a_worker_that_hangs_is_gone_at_its_limit() -> None:
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        before = served_by(worker)
        assert worker.compare(HANGS, "1", ordered=False, seconds=0.5) is UNDECIDED
        assert ask(worker) is RIGHT
        after = served_by(worker)
        assert before != after
        assert not Path(f"/proc/{before}").exists()
    finally:
        worker.close()


def ask(worker: Worker, seconds: float = 20.0) -> Verdict:
    return worker.compare("x+1", "1+x", ordered=False, seconds=seconds)


def served_by(worker: Worker) -> int:
    """Process id of the child that compares."""
    return int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])


def test_memory_is_limited_and_the_worker_lives_on() -> None:
    bomb = "(a+b+c+d+f+g+h+k)^{60}"  # 800 million terms, were it expanded
    worker = Worker(memory_bytes=96 * 2**20)
    try:
        assert ask(worker) is RIGHT
        child = served_by(worker)
        assert worker.compare(bomb, "x+a", ordered=False, seconds=10.0) is not RIGHT
        if served_by(worker) == child:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
            assert int(status["VmPeak"].split()[0]) <= 96 * 1024
        assert ask(worker) is RIGHT
    finally:
        worker.close()


def test_running_out_of_memory_is_undecided() -> None:
    worker = Worker(memory_bytes=1)
    try:
        assert worker.compare("(a+b+c+d+f+g+h+k)^{60}", "x+a", ordered=False, seconds=10.0) is UNDECIDED
    finally:
        worker.close()


@pytest.mark.parametrize("whom", ["child", "parent"])
def test_a_worker_killed_in_the_middle(whom: str) -> None:
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        assert worker.pid is not None
        victim = served_by(worker) if whom == "child" else worker.pid
        threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()
        start = time.perf_counter()
        assert worker.compare(HANGS, "1", ordered=False, seconds=1.5) is UNDECIDED
        assert time.perf_counter() - start < (1.4 if whom == "child" else 6.0)
        assert ask(worker) is RIGHT
    finally:
        worker.close()


@pytest.mark.parametrize("whom", ["child", "parent"])
def test_a_worker_killed_while_idle(whom: str) -> None:
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        assert worker.pid is not None
        os.kill(served_by(worker) if whom == "child" else worker.pid, signal.SIGKILL)
        time.sleep(0.3)
        assert [ask(worker), ask(worker)][1] is RIGHT
    finally:
        worker.close()


def test_threads_get_their_own_verdicts() -> None:
    found: dict[int, list[Verdict]] = {}

    def work(k: int) -> None:
        found[k] = [same_answer(f"x+{k}+{j}", f"{k + j % 2 * 100}+{j}+x") for j in range(8)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [RIGHT, WRONG] * 4 for k in range(4)}


def test_after_a_fork_parent_and_child_have_workers_of_their_own() -> None:
    code = """
import os, sys
from curate.verify import same_answer
from curate.verify.symbolic import workers
assert same_answer("x+1", "1+x") == "right"
before = workers(1)[0].pid
child = os.fork()
if child == 0:
    ok = same_answer("x+2", "2+x") == "right" and workers(1)[0].pid != before
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert same_answer("x+3", "3+x") == "right" and workers(1)[0].pid == before
print(before)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    deadline = time.monotonic() + 5
    while Path(f"/proc/{done.stdout.strip()}").exists():
        assert time.monotonic() < deadline, "the worker outlived its process"
        time.sleep(0.05)


def test_a_worker_is_started_by_the_first_that_needs_algebra_and_reused() -> None:
    close_workers()
    assert same_answer("18", "$18") is RIGHT
    assert workers(1)[0].pid is None
    assert same_answer("x+18", "18+x") is RIGHT
    pid = workers(1)[0].pid
    assert same_answer("x+19", "19+x") is RIGHT
    assert pid is not None
    assert workers(1)[0].pid == pid


def test_a_worker_has_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    worker = Worker()
    try:
        assert ask(worker) is RIGHT
        assert b"hunter2" not in Path(f"/proc/{worker.pid}/environ").read_bytes()
    finally:
        worker.close()


def test_without_math_verify_numbers_work_and_algebra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("curate.verify.symbolic.find_spec", lambda name: None if name == "math_verify" else find(name))
    close_workers()
    assert grade("#### 18", "18") is RIGHT
    with pytest.raises(InputError, match=r"pip install 'curate-lm\[math\]'"):
        grade(r"\boxed{x+1}", "1+x")
    pairs = [("#### 18", "18"), (r"\boxed{x+1}", "1+x")]
    with pytest.raises(InputError):
        grade_many(pairs)
    assert grade_many(pairs, algebra=False) == [RIGHT, Verdict.undecided]


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ExternalError, match="did not start"):
        ask(worker)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExternalError, match="did not start"):
        ask(worker)


# -- real data ----------------------------------------------------------------------------------------------------


def rows(folder: Path, name: str, split: str | None = "train") -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return [row for row in table if row["final_answer"] and split in (None, row["split"])]


def test_math_solutions_are_right(shared_data: Path) -> None:
    problems = rows(shared_data, "math")
    assert all(reference_answer(row["answer"]) == row["final_answer"] for row in problems)
    sample = random.Random(0).sample(problems, 500)
    found = Counter(grade_many([(row["answer"], row["final_answer"]) for row in sample]))
    assert found[RIGHT] >= 0.99 * len(sample)


def test_gsm8k_answers(shared_data: Path) -> None:
    for row in rows(shared_data, "gsm8k", None):
        assert (
            reference_answer(row["answer"]) is None
            or same_answer(str(reference_answer(row["answer"])), row["final_answer"]) is RIGHT
        )
        marked = reference_answer(f"{row['answer']}\n#### {row['final_answer']}")
        assert same_answer(str(marked), row["final_answer"]) is RIGHT


def test_the_answer_of_another_row_is_never_right(shared_data: Path) -> None:
    """Answers of plain numbers all; of expressions a part, since each takes hundredths of a second."""
    rng = random.Random(1)
    problems = rows(shared_data, "math")
    accepted = []
    for _ in range(2000):
        one, other = rng.choice(problems)["final_answer"], rng.choice(problems)["final_answer"]
        numbers = [plain_number(text) for text in (one, other)]
        if one == other or (None in numbers and rng.random() > 0.05):
            continue
        if grade(rf"\boxed{{{one}}}", other) is RIGHT:
            accepted.append((one, other, numbers))
    # Right by the rules about units: the same number, with a unit in one of them.
    assert all(isinstance(a, Plain) and isinstance(b, Plain) and a.value == b.value for _, _, (a, b) in accepted)
    assert len(accepted) < 10


@pytest.mark.parametrize("name", ["aqua", "simuleq", "deepmind_math", "science_qa"])
def test_answers_of_other_sets_are_themselves_and_no_others(shared_data: Path, name: str) -> None:
    sample = random.Random(0).sample(rows(shared_data, name, None), 150)
    own = [(f"The answer is {row['final_answer']}.", row["final_answer"]) for row in sample]
    assert set(grade_many(own)) == {RIGHT}
    others = [(text, answer) for (text, mine), (_, answer) in itertools.pairwise(own) if mine != answer]
    for (text, answer), verdict in zip(others, grade_many(others), strict=True):
        assert verdict is not RIGHT or sorted(text[14:-1].split(", ")) == sorted(answer.split(", "))


def test_marked_letters_of_aqua(shared_data: Path) -> None:
    marked = [(reference_answer(row["answer"]), row["final_answer"]) for row in rows(shared_data, "aqua", None)]
    found = Counter(same_answer(letter, answer) for letter, answer in marked if letter is not None)
    assert found[RIGHT] >= 440
    assert found[WRONG] == 0
