"""Kinds of answers that were graded wrongly: each with members of both sides, and none by a tolerance or a guess."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.verify import Verdict, extract, grade, same_answer
from tests import ROOT
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG, both_ways

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
