"""Exact numbers and seeded draws."""

from __future__ import annotations

from fractions import Fraction

from curate.word_problems.solution import Draw, show


def test_numbers_are_written_exactly_and_one_way() -> None:
    assert [show(Fraction(*pair)) for pair in [(6, 2), (1, 8), (-5, 4), (7, 3), (1, 500), (12, 10)]] == [
        *["3", "0.125", "-1.25", "7/3", "0.002", "1.2"]
    ]


def test_draw_covers_its_range() -> None:
    draw = Draw(0)
    assert {draw.integer(2, 5) for _ in range(200)} == {2, 3, 4, 5}
    assert sorted(draw.distinct("abc", 3)) == ["a", "b", "c"]
    assert {draw.weighted((0.5, 0.0, 0.5)) for _ in range(100)} == {0, 2}
