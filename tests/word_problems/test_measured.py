"""Problems about shapes."""

from __future__ import annotations

import re
from fractions import Fraction

from curate.word_problems.table import generate


def test_answers_follow_from_the_questions() -> None:
    for row in generate(200, families=["geometry"], levels=[4]).to_pylist():
        relevant = re.sub(r"The tank itself weighs \d+ kilograms\.", "", row["question"])
        wide, tall, deep, rate, minutes = map(int, re.findall(r"\d+", relevant))
        assert Fraction(row["final_answer"]) == Fraction(wide * tall * deep, 1000) - rate * minutes
