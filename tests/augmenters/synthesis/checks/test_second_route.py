"""The second route: when it confirms, and what it arrives at."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.second_route import fault, program_answer, text_answer
from curate.verify import Verdict

RIGHT, WRONG, UNDECIDED = Verdict.right, Verdict.wrong, Verdict.undecided


@pytest.mark.parametrize(
    ("verdicts", "answers", "confirmed"),
    [
        ([RIGHT, WRONG, WRONG], ["5", "6", "7"], True),
        ([RIGHT, WRONG, WRONG], ["5", "6", "6"], False),
        ([RIGHT, RIGHT, WRONG], ["5", "5", "6"], True),
        ([RIGHT, UNDECIDED, UNDECIDED], ["5", "unsolvable", "unsolvable"], False),
        ([RIGHT, UNDECIDED, UNDECIDED], ["5", None, None], True),
        ([WRONG, WRONG, WRONG], ["6", "7", "8"], False),
        ([UNDECIDED, UNDECIDED], [None, None], False),
        ([], [], False),
    ],
)
def test_it_confirms_what_no_other_answer_outnumbers(
    verdicts: list[Verdict], answers: list[str | None], confirmed: bool
) -> None:
    assert (fault(verdicts, answers) is None) == confirmed


def test_what_a_route_arrives_at() -> None:
    assert text_answer("so \\boxed{1,200}") == text_answer("so \\boxed{1200.0}") == "1200"
    assert text_answer("it may be 1200") is None
    assert program_answer("```python\nprint(3 * 4)\n```") == "12"
    assert program_answer("```python\nprint(1 / 0)\n```") is None
    assert program_answer("twelve") is None
