"""Answers that are equal as arithmetic and are something else: dates, times, scores, codes."""

from __future__ import annotations

import pytest

from curate.verify import Verdict, same_answer
from curate.verify.look_alikes import compare_dates, may_be_named_alike
from tests.fixtures.answers import RIGHT, UNDECIDED, WRONG, both_ways


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("2020-01-02", "2020-1-2", RIGHT), ("2020-01-02", "2020-02-01", WRONG), ("2/2/2020", "1/1/2020", WRONG),
        ("1/2/2020", "2/1/2020", UNDECIDED), ("1/2/20", "1/2/2020", UNDECIDED), ("2020-01-02", "2017", UNDECIDED),
        ("12-10-2020", "11-9-2020", WRONG), ("03:45", "3:45", RIGHT), ("3:45", "3:54", WRONG),
        ("3:45", "3:45:10", UNDECIDED), ("3-2", "2-1", UNDECIDED), ("3-2", "1", UNDECIDED), ("9-11", "-2", UNDECIDED),
        ("555-1234", "-679", UNDECIDED), ("4/2/1", "2", UNDECIDED), ("3 - 2", "1", None), ("2^3", "8", None),
        ("3:45 PM", "3:45 p.m.", RIGHT), ("15:45", "3:45 PM", RIGHT), ("12:30 AM", "12:30 PM", WRONG),
        ("3:45", "3:45 PM", UNDECIDED), ("2 January 2020", "Jan. 2, 2020", RIGHT), ("May 5th", "May 6", WRONG),
        ("May 5", "May 5, 2020", UNDECIDED),
    ],
)  # fmt: skip
def test_dates_times_and_scores(one: str, other: str, verdict: Verdict | None) -> None:
    assert compare_dates(one, other) is compare_dates(other, one) is verdict
    if verdict is not None:
        assert both_ways(one, other) == {verdict}


@pytest.mark.parametrize(
    ("one", "other"),
    [("CO2", "C2O"), ("CO_2", "C_2O"), ("IV", "VI"), ("HT", "TH"), ("A1", "1A"), ("H2O", "H_2O"),
     ("it", "ti"), ("Mg", "gM"), ("5 pm", "5 mp"), (r"2\pi k", r"2\pi n"), (r"\vec{v}", "v")],
)  # fmt: skip
def test_codes_and_names_are_neither_right_nor_wrong(one: str, other: str) -> None:
    assert may_be_named_alike(one, other)
    assert both_ways(one, other) == {UNDECIDED}


def test_products_and_powers_are_compared_as_before() -> None:
    for one, other in (("x^{2}", "x^2"), ("ab", "ba"), ("2 k", "2k"), ("AB", "CD"), ("2k", "3n")):
        assert not may_be_named_alike(one, other)


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (r"\{\emptyset\}", r"\emptyset", WRONG), (r"\{\}", r"\emptyset", RIGHT), (r"\varnothing", "∅", RIGHT),
        (r"\emptyset, 1", r"\emptyset", WRONG), ("10²³", "1000000", WRONG), ("10²³", "10^{23}", RIGHT),
        ("2⁻³", "1/8", RIGHT), ("５", "5", RIGHT), ("(x,y)=(1,2)", "(1,2)", RIGHT), (r"5\,\Omega", "5", RIGHT),
    ],
)  # fmt: skip
def test_marks_that_stand_for_others(one: str, other: str, verdict: Verdict) -> None:
    assert same_answer(one, other, wall_seconds=60) is same_answer(other, one, wall_seconds=60) is verdict
