"""Answers compared without algebra: letters, lists, brackets and look-alikes."""

from __future__ import annotations

import pytest

from curate.verify import Verdict, grade, same_answer
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG, both_ways


@pytest.mark.parametrize(
    "other",
    [r"(1,2", "1)", "]", r"(0,\infty]]", "(" * 900 + "1,2" + ",1)" * 900, "{" * 900 + "1" + "}" * 900, r"\{{1\}"],
)
def test_brackets_that_do_not_pair_up_and_deep_ones_are_not_right(other: str) -> None:
    for one in (r"\{1,2\}", "(1,2)", "1", "1,2", "(" * 900 + "1,2" + ",3)" * 900):
        assert RIGHT not in both_ways(one, other)


# -- letters -----------------------------------------------------------------------------------------------------------


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


# -- the process that reads --------------------------------------------------------------------------------------------


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


def test_the_order_of_lists_counts_where_asked() -> None:
    assert same_answer("2, 1", "1, 2", ordered=True) is WRONG
    assert same_answer("1, 2.0", "1, 2", ordered=True) is RIGHT
    assert same_answer("{2, 1}", "1, 2", ordered=True) is RIGHT


# -- commas that separate thousands, or elements -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\{1,720\}", r"\{720, 1\}"),
        (r"\{1,720\}", "1720"),
        (r"\{1,720\}", r"\{1720\}"),
        (r"\{100,200,300\}", r"\{300,200,100\}"),
        ("100,200,300", "300,200,100"),
        ("1,720", "720, 1"),
        ("-1,100", "100, -1"),
        (r"\{2,100,200\}", r"\{200,100,2\}"),
        (r"\{10,000, 20,000\}", r"\{20000, 10000\}"),
        ("10,000, 20,000", "20000, 10000"),
    ],
)
def test_commas_that_may_be_either_decide_nothing(one: str, other: str) -> None:
    assert both_ways(one, other) == {UNDECIDED}


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("1,720", "1720", RIGHT),
        ("1,000 and 2,000", "2000, 1000", RIGHT),
        (r"\{1,2,100\}", r"\{100, 2, 1\}", RIGHT),
        (r"\{1,100\}", r"\{1,101\}", WRONG),
        (r"\{1,100\}", r"\{100,2\}", WRONG),
        ("1,720", "1721", WRONG),
        ("1,000 and 2,000", "1000, 3000", WRONG),
    ],
)
def test_commas_whose_readings_agree(one: str, other: str, verdict: object) -> None:
    assert both_ways(one, other) == {verdict}
