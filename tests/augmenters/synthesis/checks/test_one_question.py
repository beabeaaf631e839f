"""How many things a problem asks for."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.one_question import fault


@pytest.mark.parametrize(
    ("problem", "answer", "several"),
    [
        ("Tom has 3 pens. How many pens has he?", "3", False),
        ("Tom asks: Can you help me? How many pens are there?", "3", False),
        ("How many pens are there, and how many books?", "3", True),
        ("How many pens are there? How many books are there?", "3", True),
        ("Find x and determine y.", "3", True),
        ("Find the sum. What is its half?", "3", True),
        ("(a) Find the sum. (b) Find the half.", "3", True),
        ("How many pens are there? Also state how many books there are.", "3", True),
        ("How many pens are there? State both this and half of it.", "3", True),
        ("How many pens are there? Then calculate the same for books.", "3", True),
        ("How many pens are there? Give both this and its square.", "3", True),
        ("How many pens are there? Explain, and work out the average too.", "3", True),
        ("How many pens are there? Round it, and say how much was lost.", "3", True),
        ("How many pens are there? List the results of all steps, and give their sum.", "3", True),
        ("How many pens are there? Round to the nearest ten.", "30", False),
        ("How many pens are there? Explain how you know, and show your work.", "3", False),
        ("How many pens are there? Give it to the nearest ten.", "3", False),
        ("How many pens are there? State your answer as a fraction.", "3", False),
        ("How many pens are there? Report the final result in words.", "3", False),
        ("Find the values of x and y. What are they?", "3, 4", False),  # an answer of two parts
        ("What is the age at which he is twice as old as she?", "12", False),
        ("What is the total of what he and what she has?", "12", False),
        ("Which one is it?\nA) what B) which C) both?", "B", False),
        ("If 3 pens cost $6, what is the price of 5?", "10", False),
    ],
)
def test_one_quantity_is_asked_for(problem: str, answer: str, several: bool) -> None:
    assert (fault(problem, answer) is not None) == several
