"""Whatever a recipe or a setting says, a command ends in 0, 2 or 3 with at most one line of error."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

import scorers
from tests.fuzz.harness import SCALES, Answer, Driver, Record, fuzz, hostile_text, mostly
from tests.fuzz.recipe_strategies import (
    CHEAP,
    cheap_recipes,
    components,
    damaged,
    plain_values,
    recipes,
    rows_file,
    texts,
)

_PATHS = ["proxy.steps", "proxy", "proxy.model", "scorer", "scorer.use", "clusterer.n_clusters", "augmenters.0.times"]
_PATHS += [
    "augmenters",
    "augmenters.7",
    "hard",
    "seed",
    "gate.evaluation",
    "gate.ngrams.0",
    "augmenters.0.of.x",
    "copies",
]


def planned(driver: Driver, folder: Path, *more: str) -> Answer:
    (folder / "rows.jsonl").write_text(rows_file())
    return driver.run(["plan", "rows.jsonl", *more], folder)


@SCALES
def test_recipes_of_declared_parameters_are_planned(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(recipe: dict[str, Any], folder: Path) -> Iterable[Answer]:
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        yield planned(driver, folder, "--recipe", "recipe.yaml")

    fuzz("recipes, valid", recipes(), attempt, record_property, scale=scale, valid=True)


@SCALES
def test_cheap_recipes_run_and_their_result_can_be_read(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(recipe: dict[str, Any], folder: Path) -> Iterable[Answer]:
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        (folder / "rows.jsonl").write_text(rows_file())
        yield driver.run(["run", "rows.jsonl", "--recipe", "recipe.yaml", "--out", "out"], folder)

    fuzz("recipes, run", cheap_recipes(), attempt, record_property, scale=scale, weight=0.5, valid=True)


@SCALES
def test_damaged_recipes_are_refused_in_a_line(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(text: bytes, folder: Path) -> Iterable[Answer]:
        (folder / "recipe.yaml").write_bytes(text)
        yield planned(driver, folder, "--recipe", "recipe.yaml", "--json")

    fuzz("recipes, hostile", texts(damaged(recipes())), attempt, record_property, scale=scale, weight=2)


def settings() -> st.SearchStrategy[list[str]]:
    paths = mostly(st.sampled_from(_PATHS), hostile_text(alphabet="abc.0123456789-_"))
    written = st.one_of(
        plain_values().map(lambda value: yaml.safe_dump(value, default_flow_style=True)[:200].strip()),
        hostile_text(),
        st.sampled_from(
            ["5", "[", "{use: Length}", "{use: Length, unit: tokens}", "", "&a [*a]", "!!python/name:os.system"]
        ),
    )
    setting = st.tuples(paths, st.sampled_from(["=", "=", "=", "", "=="]), written).map("".join)
    return st.lists(setting, min_size=1, max_size=3)


@SCALES
def test_settings_of_any_kind_are_taken_or_refused_in_a_line(
    driver: Driver, scale: int, record_property: Record
) -> None:
    def attempt(given: list[str], folder: Path) -> Iterable[Answer]:
        yield planned(driver, folder, "--proxy", "scratch", *[f"--set={each}" for each in given])

    cases = settings().map(lambda given: [each.replace("\0", "") for each in given])
    fuzz("--set, hostile", cases, attempt, record_property, scale=scale, weight=2)


@SCALES
def test_settings_of_declared_parameters_are_taken(driver: Driver, scale: int, record_property: Record) -> None:
    def attempt(given: list[str], folder: Path) -> Iterable[Answer]:
        yield planned(driver, folder, "--proxy", "scratch", *[f"--set={each}" for each in given])

    def written(path: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
        return values.map(
            lambda value: f"{path}={yaml.safe_dump(value, default_flow_style=True).partition('...')[0].strip()}"
        )

    one = st.one_of(
        written("scorer", components(CHEAP, scorers)),
        written("proxy.max_length", st.integers(8, 512)),
        written("clusterer.n_clusters", st.integers(2, 9)),
        written("augmenters.0.times", st.integers(1, 9)),
        written("seed", st.integers(0, 9)),
        written("copies", st.sampled_from(["rows", "weights"])),
        written("hard", st.sampled_from(["highest", "above_mean", 1])),
    )
    fuzz(
        "--set, valid",
        st.lists(one, min_size=1, max_size=4),
        attempt,
        record_property,
        scale=scale,
        weight=0.5,
        valid=True,
    )
