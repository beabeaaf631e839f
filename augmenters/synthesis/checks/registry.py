"""The checks by name, in the order in which they run, and the reason that each records."""

from __future__ import annotations

from typing import Literal, get_args

from augmenters.synthesis.checks import (
    agreement,
    answer_hidden,
    difference,
    givens_used,
    grounded,
    one_question,
    second_route,
    units,
)

Check = Literal[
    "answer_hidden", "one_question", "different", "agreement", "givens_used", "grounded", "units", "second_route"
]
CHECKS: tuple[Check, ...] = get_args(Check)
REASONS: dict[Check, str] = {
    "answer_hidden": answer_hidden.REASON,
    "one_question": one_question.REASON,
    "different": difference.REASON,
    "agreement": agreement.REASON,
    "givens_used": givens_used.REASON,
    "grounded": grounded.REASON,
    "units": units.REASON,
    "second_route": second_route.REASON,
}
# Checks of the problem alone, before it is solved; of the solutions, once the band is met; and by further requests.
OF_PROBLEMS: tuple[Check, ...] = ("answer_hidden", "one_question", "different")
OF_SOLUTIONS: tuple[Check, ...] = ("agreement", "givens_used", "grounded", "units")
# Checks for tasks without a final answer, such as programs and tool calls, before they are solved.
OF_TASKS: tuple[Check, ...] = ("answer_hidden", "different")


def problem_faults(
    problem: str, answer: str, parent: str, least_difference: float, checks: frozenset[Check]
) -> dict[Check, str]:
    """Check -> fault it found, for the checks of problems among `checks`."""
    checkers = {
        "answer_hidden": lambda: answer_hidden.fault(problem, answer, parent),
        "one_question": lambda: one_question.fault(problem, answer),
        "different": lambda: difference.fault(problem, parent, least_difference),
    }
    faults = {name: checkers[name]() for name in OF_PROBLEMS if name in checks}
    return {name: fault for name, fault in faults.items() if fault is not None}


def task_faults(
    task: str, solution: str, parent: str, least_difference: float, checks: frozenset[Check]
) -> dict[Check, str]:
    """Like `problem_faults`, for a task whose solution is not a number: the solution itself must not occur in it."""
    checkers = {
        "answer_hidden": lambda: answer_hidden.solution_told(task, solution),
        "different": lambda: difference.fault(task, parent, least_difference),
    }
    faults = {name: checkers[name]() for name in OF_TASKS if name in checks}
    return {name: fault for name, fault in faults.items() if fault is not None}


def solution_faults(
    problem: str, right: list[str], wrong: list[str], least_right: int, checks: frozenset[Check]
) -> dict[Check, str]:
    """Check -> fault it found, for the checks of solutions among `checks`. right, wrong: texts of the solutions."""
    checkers = {
        "agreement": lambda: agreement.fault(len(right), wrong),
        "givens_used": lambda: givens_used.fault(problem, right),
        "grounded": lambda: grounded.fault(problem, right, least_right),
        "units": lambda: units.fault(problem, right),
    }
    faults = {name: checkers[name]() for name in OF_SOLUTIONS if name in checks}
    return {name: fault for name, fault in faults.items() if fault is not None}
