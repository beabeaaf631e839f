"""Solutions that calculate with what the problem states, and with true equations."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.grounded import fault, solution_fault

PROBLEM = "Tom has 5 boxes of 3 pens and works 2 hours for them. Each pen is sold 20% cheaper. How many?"


@pytest.mark.parametrize(
    ("solution", "says"),
    [
        ("5 * 3 = 15, then 15 - 2 = 13", None),
        ("5 * 3 = 15. 15 * 4 = 60", "4 from nowhere"),
        ("5 * 3 = 16", "does not hold"),
        ("2 * 60 = 120 minutes", None),  # minutes of an hour
        ("5 * 3 = 15. 15 * 0.8 = 12", None),  # 20 % off
        ("5 boxes of 3 make 15. 15 + 2 = 17", None),  # made in words
        ("It must be 77. 77 + 2 = 79", "77 from nowhere"),
        ("1. 5 * 3 = 15\n2. 15 / 3 = 5", None),
        ("The answer is \\boxed{44}", None),  # says nothing that can be read
        ("x = 99 and x + 5 = 104", None),
    ],
)
def test_where_numbers_come_from(solution: str, says: str | None) -> None:
    found = solution_fault(PROBLEM, solution)
    assert found is None if says is None else says in (found or "")


def test_so_many_of_the_right_ones_must_be_grounded() -> None:
    good, bad = "5 * 3 = 15", "5 * 7 = 35"
    assert fault(PROBLEM, [good, good, bad], 2) is None
    assert fault(PROBLEM, [good, bad, bad], 2) == "7 from nowhere"
    assert fault(PROBLEM, [good, bad, bad], 1) is None
    assert fault(PROBLEM, [], 2) is None
