"""Every check has its module, its reason and its place; each can be left out."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.registry import (
    CHECKS,
    OF_PROBLEMS,
    OF_SOLUTIONS,
    REASONS,
    problem_faults,
    solution_faults,
)

PARENT = "Tom has 3 boxes of 4 pens. How many pens has he?"


def test_every_check_is_made_in_one_place_and_has_a_reason_of_its_own() -> None:
    assert (*OF_PROBLEMS, *OF_SOLUTIONS, "second_route") == CHECKS
    assert set(REASONS) == set(CHECKS)
    assert len(set(REASONS.values())) == len(CHECKS)


@pytest.mark.parametrize("check", OF_PROBLEMS)
def test_a_check_of_problems_that_is_off_finds_nothing(check: str) -> None:
    problem = "Ann has 7 boxes of 4 pens, 12 pens. How many pens has she, and how many boxes?"
    every = problem_faults(problem, "12", PARENT, 0.9, frozenset(CHECKS))
    assert set(every) == set(OF_PROBLEMS)
    assert set(problem_faults(problem, "12", PARENT, 0.9, frozenset(CHECKS) - {check})) == set(OF_PROBLEMS) - {check}


@pytest.mark.parametrize("check", OF_SOLUTIONS)
def test_a_check_of_solutions_that_is_off_finds_nothing(check: str) -> None:
    problem = "Tom has 3 boxes of 4 pens and 9 books. How many minutes is that?"
    right, wrong = ["3 * 5 = 15, so \\boxed{12 hours}"], ["so \\boxed{7}", "so \\boxed{7}"]
    every = solution_faults(problem, right, wrong, 1, frozenset(CHECKS))
    assert set(every) == set(OF_SOLUTIONS)
    assert set(solution_faults(problem, right, wrong, 1, frozenset(CHECKS) - {check})) == set(OF_SOLUTIONS) - {check}
