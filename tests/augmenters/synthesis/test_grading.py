"""Grading of solutions and of second routes."""

from __future__ import annotations

from augmenters.synthesis.domains import MATHS, Domain
from augmenters.synthesis.grading import grading, second_route_of
from augmenters.synthesis.variants import SourceRow
from curate.generators.requests import Sampling
from curate.graders import JSON
from curate.verify import Verdict

ROW = SourceRow(0, "a", "What is 3 + 4?", "3 + 4 = 7", "7")


def test_final_answers_count_only_where_they_are_marked() -> None:
    grades = grading(MATHS, run_programs=False)
    assert grades("so \\boxed{7}", ROW) == Verdict.right
    assert grades("so \\boxed{8}", ROW) == Verdict.wrong
    assert grades("it may be 7 or 8", ROW) == Verdict.undecided


def test_the_second_route_by_a_program_goes_by_what_it_prints() -> None:
    route = second_route_of(MATHS, 2, Sampling(), program=True, run_programs=True)
    assert "Python program" in route.prompt
    assert route.grade("```python\nprint(3 + 4)\n```", ROW) == Verdict.right
    assert route.grade("```python\nprint(3 * 4)\n```", ROW) == Verdict.wrong
    assert route.grade("```python\nprint(1 / 0)\n```", ROW) == Verdict.undecided
    assert route.grade("\\boxed{7}", ROW) == Verdict.undecided
    assert route.answer("```python\nprint(3 * 4)\n```", Verdict.wrong) == "12"


def test_a_grader_sees_the_reference_and_the_row() -> None:
    call = '{"name": "add", "arguments": {"a": 1}}'
    row = SourceRow(0, "a", "Add one.", call, call)
    grades = grading(Domain(JSON(), ("variation_calls", "solution_calls", "second_calls")), run_programs=False)
    assert grades(f"<tool_call>{call}</tool_call>", row) == Verdict.right
    assert grades(call.replace("1", "2"), row) == Verdict.wrong
    route = second_route_of(Domain(JSON()), 2, Sampling(), program=True, run_programs=True)
    assert route.grade(call, row) == Verdict.right  # no final answer that a program could print
