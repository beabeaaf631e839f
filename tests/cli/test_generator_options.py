"""Options of synthesis become settings of the recipe's Synthesize, wherever it stands."""

import argparse
from typing import Any

import pytest

from curate.cli.generator_options import add_generator_arguments, recipe_settings, sandbox, summary
from curate.errors import InputError

RECIPE: dict[str, Any] = {"augmenters": [{"use": "Duplicate"}, {"use": "augmenters.Synthesize", "generator": "m"}]}


def _options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_generator_arguments(parser)
    return parser.parse_args(words)


def test_options_set_the_synthesize_of_the_recipe() -> None:
    words = ("--generator", "big", "--url", "http://a", "--url", "http://b", "--band", "1-5", "--rows", "7")
    assert sorted(recipe_settings(_options(*words), RECIPE)) == [
        "augmenters.1.band=[1, 5]",
        'augmenters.1.generator.model="big"',
        'augmenters.1.generator.url=["http://a", "http://b"]',
        "augmenters.1.rows=7",
    ]
    assert recipe_settings(_options(), RECIPE) == []


@pytest.mark.parametrize(
    ("words", "recipe", "says"),
    [
        (("--rows", "7"), {"augmenters": []}, "--rows is for recipes with Synthesize"),
        (("--vllm", "x", "--url", "y"), RECIPE, "give one of them"),
        (("--rows", "7"), {"augmenters": [{"use": "Synthesize"}]}, "--generator MODEL"),
        (("--band", "five"), RECIPE, "LOW-HIGH"),
    ],
)
def test_what_does_not_fit_names_the_option(words: tuple[str, ...], recipe: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        recipe_settings(_options(*words), recipe)


def test_a_weaker_sandbox_is_refused_where_nothing_runs() -> None:
    with pytest.raises(InputError, match="add --run-programs"):
        sandbox(_options("--weak-sandbox"))


def test_the_summary_names_losses_most_frequent_first() -> None:
    lines = summary(
        {
            "funnel": [["proposals asked for", 10], ["kept", 2]],
            "tokens": {"generated": 1_234},
            "outcomes": {"too easy": 3, "kept": 2, "too hard": 5},
            "rescored": {"measured": 2, "hard": 1},
            "budget_reached": True,
            "budget": 5_000,
        }
    )
    assert lines[0] == "new problems: 2 of 10 proposals kept (20.0%), 1,234 tokens generated"
    assert lines[1] == "rejected: 5 too hard, 3 too easy"
    assert "1 of 2 hard again (50%)" in lines[2]
    assert "5,000 tokens is spent" in lines[3]
