"""Kinds of answers that were graded wrongly: each with members of both sides, and none by a tolerance or a guess."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.verify import Verdict, close_workers, extract, grade, grade_many, reference_answer, same_answer
from curate.verify.turns import own_words
from tests import ROOT

RIGHT, WRONG, UNDECIDED = Verdict.right, Verdict.wrong, Verdict.undecided


@pytest.fixture(autouse=True, scope="module")
def _no_worker_is_left() -> Iterator[None]:
    yield
    close_workers()


def both_ways(one: str, other: str) -> set[Verdict]:
    return {same_answer(one, other), same_answer(other, one)}


# -- different numbers, however near or small -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{1}{50!}", r"\frac{1}{49!}"),
        (r"3^{-110}", r"3^{-111}"),
        (r"\frac{\pi}{2^{200}}", r"\frac{\pi}{2^{201}}"),
        (r"e^{-500}", r"e^{-501}"),
        (r"\sin(10^{-100})", r"\sin(10^{-101})"),
        (r"1-\cos(10^{-100})", "0"),
        (r"\tanh 500", "1"),
        (r"\sqrt{2}+10^{-300}", r"\sqrt{2}"),
        (r"\sqrt{10^{40}+1}", r"10^{20}"),
        (r"e^{\pi\sqrt{163}}", "640320^3+744"),
        (r"\sqrt[3]{10^{90}+1}", r"10^{30}"),
        (r"\log_{10}(10^{50}+1)", "50"),
        (r"(1+10^{-60})^{10}", "1"),
        (r"(\frac{1}{2^{200}},3)", r"(\frac{1}{2^{201}},3)"),
        (r"[2^{-200},1)", r"[2^{-201},1)"),
        (r"\{2^{-200}, 1\}", r"\{2^{-201}, 1\}"),
        (r"\begin{pmatrix}2^{-200}\\1\end{pmatrix}", r"\begin{pmatrix}2^{-201}\\1\end{pmatrix}"),
        (r"x^2+2^{-200}", r"x^2+2^{-201}"),
        (r"x+2^{-200}y", "x"),
        (r"\frac{x}{10^{70}}", r"\frac{x}{10^{71}}"),
        ("y = x + 2^{-200}", "y = x"),
        ("1e-700", "1e-701"),
        (r"2^{-200}\%", r"2^{-201}\%"),
        (r"2^{-200}i", r"2^{-201}i"),
        # Misread by the parser: juxtaposed integers were added.
        (r"3\binom{5}{2}", "13"),
        (r"\binom{5}{2}\binom{4}{2}", "16"),
        (r"(2)\frac{1}{3}", r"\frac{7}{3}"),
    ],
)
def test_different_numbers_are_wrong(one: str, other: str) -> None:
    assert both_ways(one, other) == {WRONG}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{100!}{50!\,50!}", r"\binom{100}{50}"),
        (r"\frac{2^{200}+1}{2^{201}}", r"\frac{1}{2}+2^{-201}"),
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"),
        (r"\sqrt[3]{2+\sqrt{5}}+\sqrt[3]{2-\sqrt{5}}", "1"),
        (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt{5}}{4}"),
        (r"\arctan 1", r"\frac{\pi}{4}"),
        (r"\log_2 8", "3"),
        (r"i^i", r"e^{-\pi/2}"),
        (r"\frac{1}{1+i}", r"\frac{1-i}{2}"),
        (r"\sqrt[3]{-8}", "-2"),
        (r"3\binom52", "30"),
        (r"\frac{1}{2}+\log_{2} 16", "4.5"),
        (r"\frac\pi2", r"\pi/2"),
        (r"\sqrt12", r"2\sqrt3"),
        ("\u221a12", r"2\sqrt{3}"),
        (r"\sinh(\ln 2)", r"\frac{3}{4}"),
        (r"\frac{(n+1)n}{2}", "n(n+1)/2"),
        (r"\frac{2}{\sqrt{x}}", r"\frac{2\sqrt{x}}{x}"),
        (r"2^{x+3}", r"8\cdot 2^x"),
        ("x < 3", r"(-\infty, 3)"),
        ("2 > x", "x < 2"),
        (r"\begin{pmatrix}\frac{1}{2}&1\end{pmatrix}", r"\begin{pmatrix}0.5&1\end{pmatrix}"),
        ("f(x) = 2x+3", "3+2x"),
        (r"12\pi\%", r"12\pi"),
        ("2x+4y=6", "x+2y=3"),
        (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"),
        ("1e10", "10^{10}"),
        ("2.5e-60", r"\frac{5}{2}\cdot 10^{-60}"),
        (r"\frac{5C2}{10C3}", r"\frac{1}{12}"),
    ],
)
def test_equal_numbers_in_other_notations_are_right(one: str, other: str) -> None:
    assert both_ways(one, other) == {RIGHT}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{x^2}", "x"),
        ("|x-100|", "100-x"),
        (r"\sqrt{(x-10^9)^2}", "10^9-x"),
        (r"\ln(x^2)", r"2\ln x"),
        (r"\log x", r"\ln x"),
        (r"(-1)^n", "1"),
        (r"k\pi", r"\pi+k\pi"),
        (r"\overline{3+i}", "3-i"),
        ("2^3^2", "64"),
        (r"\sin 2 \cdot 3", r"\sin 6"),
        (r"\log_{2} 8 (3)", r"\log_{2} 24"),
        ("(101)_{2}", "10100"),
        ("1e2x", "100x"),
        ("5 r 1", "5"),
        ("0.1666666666666667+1/3", "1/2"),
        (r"\sqrt[3]{-8}", r"1+\sqrt{3}i"),
        # Decimals that were cut short, not rounded.
        ("0.66", "2/3"),
        ("0.14285714285714285", "1/7"),
        ("3.141592653589", r"\pi"),
    ],
)
def test_what_is_the_same_at_some_points_or_in_some_readings_is_undecided(one: str, other: str) -> None:
    assert both_ways(one, other) == {UNDECIDED}


@pytest.mark.parametrize(
    "huge",
    [
        "9^9^9^9",
        "9^{9^{9^9}}",
        "(9^9)^{(9^9)^9}",
        r"10^{10^{10}}",
        "(10^9)!",
        "1000000000!",
        "((20!)!)!",
        "(9999!)^{9999}",
        r"\binom{1000000000}{500000000}",
        "(1+x)^{999999}(1-x)^{999999}",
        "2^{99999}-2^{99998}",
        r"\sqrt{" * 60 + "2" + "}" * 60,
        r"\exp(\exp(\exp(\exp(9))))",
        r"\sum_{k=1}^{1000000000} \frac{1}{k}",
        "C(99999,5)",
        "9" * 1900 + "^{9999}",
        "(" * 300 + "2" + ")" * 300,
        r"\prod_{k=1}^{100000} k",
        r"\frac{1}{" * 40 + "x" + "}" * 40,
    ],
)
def test_what_is_huge_is_graded_in_bounded_time(huge: str) -> None:
    start = time.perf_counter()
    assert same_answer(huge, "5", wall_seconds=2.0) is not RIGHT
    assert same_answer("5", huge, wall_seconds=2.0) is not RIGHT
    assert time.perf_counter() - start < 15
    assert same_answer("x+1", "1+x", wall_seconds=20.0) is RIGHT


@pytest.mark.parametrize(
    "other",
    [r"(1,2", "1)", "]", r"(0,\infty]]", "(" * 900 + "1,2" + ",1)" * 900, "{" * 900 + "1" + "}" * 900, r"\{{1\}"],
)
def test_brackets_that_do_not_pair_up_and_deep_ones_are_not_right(other: str) -> None:
    for one in (r"\{1,2\}", "(1,2)", "1", "1,2", "(" * 900 + "1,2" + ",3)" * 900):
        assert RIGHT not in both_ways(one, other)


# -- ellipses and repeating decimals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.999...", "1"),
        ("9.99...", "10"),
        ("0.333\u2026", "1/3"),
        ("0.33..", "0.33"),
        ("1, 2, 3, ...", "1,2,3"),
        (r"1, 2, 3, \ldots", "1,2,3"),
        (r"1, 2, \dots, 5", "1,2,5"),
        (r"\{1, 2, \cdots\}", r"\{1,2\}"),
        ("1, 2, 3, etc.", "1,2,3"),
        ("1+2+...+10", "55"),
        (r"1+2+\cdots+10", "55"),
        ("42...", "42"),
        (r"3.14\dots", "3.14"),
        ("1, 2, and so on", "1, 2"),
        ("0.3 repeating", "0.3"),
        ("0.3 recurring", "0.3"),
        ("3 tens", "3"),
        ("5 hundreds", "5"),
        ("101 binary", "5"),
    ],
)
def test_what_is_left_out_is_undecided(one: str, other: str) -> None:
    assert both_ways(one, other) == {UNDECIDED}
    assert grade(f"The answer is {one}", other) is not RIGHT
    assert grade(f"so it would be {one}", other) is not RIGHT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"0.\overline{3}", "1/3"),
        (r"0.\bar{3}", "1/3"),
        (r"0.\bar 3", "1/3"),
        ("0.(3)", "1/3"),
        ("0.3\u0307", "1/3"),
        (r"0.\dot{3}", "1/3"),
        (r"0.\dot{1}4285\dot{7}", "1/7"),
        (r"0.1\overline{6}", "1/6"),
        ("0.1(6)", "1/6"),
        ("0.1\u03052\u0305", "12/99"),
        (r"-2.\overline{45}", "-27/11"),
        (r"0.\overline{9}", "1"),
        (r"33.\overline{3}\%", "1/3"),
        (r"x = 0.\overline{3}", "1/3"),
    ],
)
def test_repeating_decimals_are_fractions(text: str, value: str) -> None:
    assert both_ways(text, value) == {RIGHT}
    assert RIGHT not in both_ways(text, f"{value}0")
    assert RIGHT not in both_ways(text, text.translate(str.maketrans("123456789", "234567895")))


# -- exclamation marks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 42!", "42"),
        ("#### 12!", "12"),
        ("The answer is 50%!", "50%"),
        ("The answer is x = 4!", "4"),
        ("The answer is **42**!", "42"),
        ("The answer is 5 apples!", "5"),
        ("The answer is $18!", "18"),
        ("The answer is 42!!!", "42"),
        ("The answer is 42! Great job.", "42"),
        ("The answer is 42! \U0001f389", "42"),
        ("The answer is Evelyn!", "Evelyn"),
        ("So the answer is $42$!", "42"),
        ("So, 42!", "42"),
        ("<answer>5 apples</answer>!", "5"),
        ("The answer is (B)!", "B"),
        ("The answer is 6!", "720"),
        ("#### 6!", "720"),
        (r"\boxed{6!}", "720"),
        ("The answer is $6!$.", "720"),
        ("The answer is 6!.", "720"),
        (r"\boxed{4!!}", "8"),
        ("The answer is 7!!", "105"),
        ("The answer is n!", "n!"),
        (r"The answer is $\frac{5!}{2!}$!", "60"),
    ],
)
def test_an_exclamation_mark_ends_a_sentence_or_is_a_factorial(text: str, answer: str) -> None:
    assert grade(text, answer) is RIGHT
    assert grade_many([(text, answer)]) == [RIGHT]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{5!}", "5"),
        ("The answer is $5!$.", "5"),
        ("The answer is 5!", "6"),
        ("The answer is 42!", "24"),
        ("#### 3!", "4"),
    ],
)
def test_it_is_neither_where_the_notation_says_so(text: str, answer: str) -> None:
    assert grade(text, answer) is WRONG


def test_a_stop_too_many_is_no_ellipsis() -> None:
    assert grade("The answer is No..", "No.") is RIGHT
    assert grade("The answer is 42..", "42") is UNDECIDED


def test_a_reference_that_may_be_either_is_none() -> None:
    assert reference_answer("So the answer is 5!") is None
    assert reference_answer(r"So the answer is \boxed{5!}") == "5!"
    assert reference_answer("The answer is 5 apples!") == "5 apples"


# -- combinations ---------------------------------------------------------------------------------------------------

COMBINATIONS = [
    "5C2",
    "5 C 2",
    "C_5^2",
    "C^2_5",
    "^5C_2",
    "{}^5C_2",
    "{}_5C_2",
    "_5C_2",
    r"{}^{5}C_{2}",
    "C(5,2)",
    "C(5, 2)",
    "C_{5,2}",
    "nCr(5,2)",
    "5 choose 2",
    r"5 \choose 2",
    r"{5 \choose 2}",
    r"\binom{5}{2}",
    r"\tbinom{5}{2}",
    r"\dbinom{5}{2}",
    r"\binom52",
    r"\mathrm{C}_5^2",
    r"\text{C}_{5}^{2}",
    r"{}_5\mathrm{C}_2",
]
UNREAD = [
    ("C_n^2", r"\frac{n(n-1)}{2}"),
    ("nC2", r"\binom{n}{2}"),
    ("5c2", "10"),
    ("C_{n,2}", r"\binom{n}{2}"),
    ("C(n, 2)", r"\binom{n}{2}"),
]
PERMUTATIONS = ["5P2", "P_5^2", "A_5^2", "P(5,2)", "^5P_2", "{}_5P_2", "nPr(5,2)"]


@pytest.mark.parametrize("text", COMBINATIONS)
def test_combinations(text: str) -> None:
    assert both_ways(text, "10") == both_ways(text, r"\frac{5!}{2!\,3!}") == {RIGHT}
    assert grade(rf"\boxed{{{text} \cdot 2}}", "20") is not WRONG
    assert RIGHT not in both_ways(text, "11") | both_ways(text, "20") | both_ways(text, "7")


@pytest.mark.parametrize("text", PERMUTATIONS)
def test_permutations(text: str) -> None:
    assert both_ways(text, "20") == {RIGHT}
    assert RIGHT not in both_ways(text, "10")
    assert WRONG not in both_ways(text, "(5,2)")


def test_combinations_that_are_not_read_are_not_wrong() -> None:
    for one, other in UNREAD:
        assert WRONG not in both_ways(one, other)


def test_every_notation_of_one_number_is_every_other() -> None:
    assert {same_answer(one, other) for one in COMBINATIONS for other in COMBINATIONS[:6]} == {RIGHT}


# -- ends, turns and tags -------------------------------------------------------------------------------------------

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


# -- letters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "verdict"),
    [
        ("The answer is A.", "A", RIGHT),
        ("(A)", "a)", RIGHT),
        ("(a)", "A", RIGHT),
        ("a", "A", RIGHT),
        ("A.", "(A)", RIGHT),
        ("The answer is (A).", "(a)", RIGHT),
        ("The answer is (A).", "a", RIGHT),
        ("The answer is A.", "a", UNDECIDED),
        ("The answer is A.", "(A) 18", RIGHT),
        ("The answer is B.", "(A) 18", WRONG),
        ("The answer is 18.", "(A) 18", RIGHT),
        ("The answer is (A) 18.", "A", RIGHT),
        ("The answer is B.", "a)", WRONG),
        ("The answer is n.", "N", WRONG),
    ],
)
def test_letters(text: str, answer: str, verdict: Verdict) -> None:
    assert grade(text, answer) is verdict


# -- the process that reads -----------------------------------------------------------------------------------------


def test_nothing_that_lies_in_the_working_folder_is_imported(tmp_path: Path) -> None:
    for name in ("sympy", "math_verify", "curate", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    code = "import sys; sys.path.pop(0); from curate.verify import same_answer; print(same_answer('x+1', '1+x'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr
