"""Problems about money."""

from __future__ import annotations

import re

from curate.word_problems.table import generate


def test_answers_follow_from_the_questions() -> None:
    for row in generate(200, families=["shopping"], levels=[1]).to_pylist():
        first, second, *more = map(int, re.findall(r"\d+", row["question"]))
        assert int(row["final_answer"]) == first * second + sum(more)
