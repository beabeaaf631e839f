"""What each strategy shows of a source row, and the prompt file that takes it."""

from __future__ import annotations

import pytest

from augmenters.synthesis.prompts import chat, check_prompt
from augmenters.synthesis.strategies import PLACES, STRATEGIES, Strategy, prompt_file, shown
from curate.verify import run_program

PROBLEM = "Ann buys 5 boxes of 3 pens and 1,200 clips; 20% of the clips are bent. How many good things are there?"
SOLUTION = (
    "There are 5 * 3 = 15 pens.\n20% of 1,200 = 240 clips, so 1,200 - 240 = 960.\nIn all 15 + 960 = 975.\n#### 975"
)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_a_prompt_with_the_places_it_fills(strategy: Strategy) -> None:
    text = check_prompt(prompt_file(strategy), *PLACES[strategy])
    values = shown(strategy, PROBLEM, SOLUTION)
    assert values is not None
    assert set(values) == set(PLACES[strategy])
    (message,) = chat(text, values)
    assert "{{" not in message["content"]  # type: ignore[index]


def test_a_skeleton_shows_the_operations_and_nothing_of_the_setting() -> None:
    assert shown("skeleton", PROBLEM, SOLUTION) == {
        "operations": "5 * 3 = 15\n20% * 1,200 = 240\n1,200 - 240 = 960\n15 + 960 = 975"
    }


def test_the_program_of_a_solution_computes_its_answer() -> None:
    values = shown("back_translation", PROBLEM, SOLUTION)
    assert values is not None
    assert run_program(values["program"]).output == "975.0\n"
    assert values["program"].count("step_1") == 2  # a result is referred to by its name
    own = "```python\nprint(15 + 960)\n```"
    assert shown("back_translation", PROBLEM, own) == {"program": "print(15 + 960)"}


def test_a_solution_without_operations_has_neither() -> None:
    for strategy in ("skeleton", "back_translation"):
        assert shown(strategy, PROBLEM, "It is clear that there are some.") is None  # type: ignore[arg-type]
        assert shown(strategy, PROBLEM, "5 * 3 = 16") is None  # type: ignore[arg-type]
