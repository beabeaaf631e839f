"""Rows and scores that options name, in every command alike."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from augmenters.synthesis.checks.registry import CHECKS
from curate.cli.steps import add_generator_arguments, recipe_settings, sandbox, summary
from curate.errors import InputError
from tests.fixtures.commands import TINY, Call, Finished, _rows, _write, contents


def test_where_limit_seed_and_bad_rows(tmp_path: Path, call: Call) -> None:
    rows = _rows()
    rows[5]["completion"] = None
    path = _write(tmp_path / "d.jsonl", rows)
    given = [path, *TINY, "--where", "topic=b", "--on-bad-row", "drop", "--json"]
    assert "1 unusable rows left out" in call("plan", *given).err
    assert call("plan", *given).json["rows_in"] == 19
    assert call("plan", *given, "--where", "topic=a").json["rows_in"] == 20
    assert call("plan", *given, "--limit", "10").json["rows_in"] == 10
    one, two, other = (
        pq.read_table(_scored(call, tmp_path / f"{k}.parquet", *given, "--limit", "10", "--seed", seed))
        for k, seed in enumerate(("3", "3", "4"))
    )
    assert one.equals(two)
    assert not one.column("example_id").equals(other.column("example_id"))


def _scored(call: Call, out: Path, *arguments: str | Path) -> Path:
    assert call("score", *arguments, "--out", out).json["rows"] == 10
    return out


def test_scores_by_file_give_the_same_result_in_any_row_order(finished: Finished, tmp_path: Path, call: Call) -> None:
    """Measuring first and curating later is the same as both at once, and scores are joined by id."""
    path = tmp_path / "scores.parquet"
    scored = call("score", finished.data, "--out", path, *finished.arguments, "--json")
    assert scored.status == 0
    assert scored.json == {"scores": str(path), "rows": 40, "valid": 40}
    arguments = ["run", finished.data, "--scores", path, "--out", tmp_path / "out", *finished.arguments, "--json"]
    assert call(*arguments).status == 0
    assert contents(tmp_path / "out") == contents(finished.out)
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(40)), path)
    assert call(*arguments).json["done_before"] is True
    assert call(*arguments, "--fresh").status == 0
    assert contents(tmp_path / "out") == contents(finished.out)


# -- options of synthesis become settings of the recipe's Synthesize, wherever it stands

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
    chosen = _options("--rows", "7")
    chosen.set = ["augmenters.0.generator={use: Transformers, model: m}"]
    assert recipe_settings(chosen, {"augmenters": [{"use": "Synthesize"}]}) == ["augmenters.0.rows=7"]


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


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("none", []),
        ("all", list(CHECKS)),
        ("units,grounded", ["grounded", "units"]),
        ("-second_route", [name for name in CHECKS if name != "second_route"]),
    ],
)
def test_checks_are_named_one_by_one_or_left_out(text: str, checks: list[str]) -> None:
    options = _options(f"--checks={text}")
    (written,) = [each for each in recipe_settings(options, RECIPE) if ".checks=" in each]
    assert json.loads(written.partition("=")[2]) == checks


def test_a_grader_is_a_name_or_yaml() -> None:
    for text, written in (("tests", '"tests"'), ("{use: Tests, seconds: 3}", "{use: Tests, seconds: 3}")):
        (setting,) = recipe_settings(_options("--grader", text), RECIPE)
        assert setting == f"augmenters.1.grader={written}"
