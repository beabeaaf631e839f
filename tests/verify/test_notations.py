"""Notations of numbers that leave something out, repeat, end a sentence or count choices."""

from __future__ import annotations

import pytest

from curate.verify import grade, grade_many, reference_answer, same_answer
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG, both_ways

# -- ellipses and repeating decimals -----------------------------------------------------------------------------------


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


# -- exclamation marks -------------------------------------------------------------------------------------------------


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


# -- combinations ------------------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2C_5^2", "20"),
        ("2 C_{5}^{2}", "20"),
        ("2C^2_5", "20"),
        ("2C_3^5", "20"),
        ("3A_5^2", "60"),
        ("2P_5^2", "40"),
        ("2C(5,2)", "20"),
        ("7+2C_5^2", "27"),
        ("2C_5^2C_4^1", "80"),
    ],
)
def test_multiples_of_combinations(text: str, value: str) -> None:
    assert both_ways(text, value) == {RIGHT}
    assert RIGHT not in both_ways(text, "100") | both_ways(text, "10") | both_ways(text, str(int(value) + 1))


@pytest.mark.parametrize("text", ["5C_2^2", "5C2^2", "5P_2^2", "5C2!", "C_5^2!", "5 choose 2^2", "12C_5^2"])
@pytest.mark.parametrize("value", ["5", "10", "20", "100", "120", "400", "3628800", "627264"])
def test_what_has_two_usual_readings_is_neither(text: str, value: str) -> None:
    assert both_ways(text, value) == {UNDECIDED}


# -- factorials of factorials ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(3!)!", "720"),
        (r"\left(3!\right)!", "720"),
        ("-(3!)!", "-720"),
        ("(3!)!/6", "120"),
        (r"\frac{(3!)!}{5!}", "6"),
        ("(0!)!", "1"),
    ],
)
def test_factorials_of_small_factorials(text: str, value: str) -> None:
    assert both_ways(text, value) == {RIGHT}
    assert both_ways(text, str(int(value) - 1)) == {WRONG}


@pytest.mark.parametrize("text", ["((3!)!)!", "(3!)!!", "2^(3!)!", "f(3!)!", "2(3!)!", "(9!)!"])
@pytest.mark.parametrize("value", ["6", "48", "720", "1440", "64"])
def test_what_is_more_than_that_is_neither(text: str, value: str) -> None:
    assert both_ways(text, value) == {UNDECIDED}
