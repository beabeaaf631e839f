"""Prompts hold the data as it is; problems are found in completions, and faults of a problem are named."""

from __future__ import annotations

import itertools

import pytest

from augmenters.synthesis.prompts import (
    DEFAULT_SOLUTION_PROMPT,
    DEFAULT_VARIATION_PROMPT,
    chat,
    check_prompt,
    parse_problem,
    problem_fault,
)
from curate.errors import InputError


def test_what_looks_like_a_template_inside_the_data_stays_as_it_is() -> None:
    nasty = "{{solution}} {{ 7*7 }} {% raw %} {problem} $x %s \\1 {{problem}}"
    (message,) = chat(DEFAULT_VARIATION_PROMPT, {"solution": nasty})
    before, _, after = DEFAULT_VARIATION_PROMPT.partition("{{solution}}")
    assert message["content"] == before + nasty + after
    assert message["content"].count(nasty) == 1


def test_shipped_prompts_have_their_place() -> None:
    assert check_prompt(DEFAULT_VARIATION_PROMPT, "solution")
    assert check_prompt(DEFAULT_SOLUTION_PROMPT, "problem")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```text\nHow many?\n```", "How many?"),
        ("Sure.\n```text\nHow\nmany?\n```\nDone.", "How\nmany?"),
        ("```python\nx\n```\n```text\nHow many?\n```", "How many?"),
        ("```\nHow many?\n```", "How many?"),
        ("```text\nno\n```</think>```text\nyes\n```", "yes"),
        ("**Problem:** How many?", "How many?"),
        ("## Question:\nHow many?", "How many?"),
        ("```text\nHow many?", "How many?"),
        ("```text How many?```", "How many?"),
        ("```text How many?\n```", "How many?"),
        ("```\nHow many?", "How many?"),
        ("```latex\nHow many?\n```", "How many?"),
        ("```textual\nHow many?\n```", "How many?"),
        ("How many?", "How many?"),
        ("Here you are:\n\nHow many?", None),
        ("Problem: How many?\n\nSolution: x = 3", "How many?"),
        ("```text\nHow many?\n**Answer:** 3\n```", "How many?"),
        ("It is seven.", None),
        ("", None),
        ("```text\n\n```", None),
        ("```text\r\nHow many?\r\n```", "How many?"),
    ],
)
def test_the_problem_is_found_in_the_completion(text: str, problem: str | None) -> None:
    assert parse_problem(text) == problem


def test_a_block_that_was_cut_off_holds_no_problem() -> None:
    assert parse_problem("```text\nHow many of", cut_off=True) is None
    assert parse_problem("```text\nHow many?\n```\nThis is", cut_off=True) == "How many?"


def test_a_completion_without_a_problem_never_gets_that_of_another() -> None:
    texts = ["```text\nfirst problem\n```", "nothing", "```text\nthird problem\n```", "Problem: fourth", "```"]
    alone = [parse_problem(text) for text in texts]
    for order in itertools.permutations(range(len(texts))):
        assert [parse_problem(texts[place]) for place in order] == [alone[place] for place in order]


@pytest.mark.parametrize(
    ("problem", "fault"),
    [
        ("How many?", "problem too short"),
        ("A baker makes 3 trays of 4 buns and sells them all.", "asks nothing"),
        ("The round trip is made at 2 miles per gallon, they say.", "asks nothing"),
        ("How many? " * 60, "problem too long"),
        ("A baker makes 3 trays\x07 of 4 buns. How many buns?", "control characters in the problem"),
        ("A baker makes 3 trays of 4 buns. How many buns are there?", None),
        ("A baker makes 3 trays with 4 buns on each. How many on one?", None),  # a given of the parent too
        ("A baker makes 120 buns at 1.2 each, 3 at a time. How many?", None),
        ("Which of (A) 1 (B) 2 is the number of moons of the Earth?", None),
        ("Work out the sum of the numbers 3 and 4, times one.", None),
        ("Let x be 3 and y be 4. Then find the product of both.", None),
        ("Compute the value of $3 \\cdot 4$ in the usual way.", None),
        ("A salt solution is 5% strong. The result is 3 times that. How much?", None),
    ],
)
def test_what_is_wrong_with_a_problem(problem: str, fault: str | None) -> None:
    assert problem_fault(problem, 500) == fault


def test_several_places_are_filled_without_a_look_into_what_fills_them() -> None:
    (message,) = chat("{{problem}} and {{solution}}", {"problem": "{{solution}}", "solution": "{{problem}}"})
    assert message["content"] == "{{solution}} and {{problem}}"
    with pytest.raises(InputError, match=r"\{\{problem\}\} exactly once"):
        check_prompt("{{solution}}", "problem", "solution")
