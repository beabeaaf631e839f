"""Every command that the parser has, on damaged input and with options of any value, ends in 0, 2 or 3."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.command_strategies import COMMANDS, FOLDERS, hostile_options, material, plain_words, readers
from tests.fuzz.damage import damage, damages
from tests.fuzz.harness import SCALES, Answer, Driver, Record, fuzz

# Nothing listens there: a cluster is found at once or not at all.
_SURROUNDINGS = {"RAY_ADDRESS": "127.0.0.1:9", "HF_TOKEN": None, "EDITOR": "true", "VISUAL": None}
# One needs the hub, and one a server.
_NEVER_DONE = ("push", "synthesize")
_LONG = ("demo", "doctor", "validate")


def ran(driver: Driver, words: list[str], folder: Path, keys: str = "") -> Answer:
    """Run a command; one that serves until it is interrupted is, once it says so."""
    seconds = 300 if words[0] in _LONG else 40  # the demo trains a model whatever the number of its rows
    return driver.run(words, folder, environment=_SURROUNDINGS, keys=keys, until="Ctrl-C", seconds=seconds)


@SCALES
def test_plain_commands_are_done(driver: Driver, made: Path, scale: int, record_property: Record) -> None:
    def attempt(name: str, folder: Path) -> Iterable[Answer]:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        yield ran(driver, [*plain_words(name)], folder, "ar")

    names = [name for name in COMMANDS if name not in _NEVER_DONE and (scale > 1 or name not in _LONG)]
    cases = st.sampled_from(names)
    fuzz("commands, plain", cases, attempt, record_property, scale=min(scale, 5), weight=0.5, valid=True, whole=False)


@SCALES
def test_commands_on_damaged_input_end_in_a_line(
    driver: Driver, made: Path, scale: int, record_property: Record
) -> None:
    def attempt(case: tuple[tuple[str, ...], int, Any, str], folder: Path) -> Iterable[Answer]:
        words, which, harm, keys = case
        shutil.copytree(made, folder, dirs_exist_ok=True)
        part = material(words)[which % len(material(words))]
        damage(folder / part if part in FOLDERS else folder, harm, "*" if part in FOLDERS else part)
        yield ran(driver, [*words], folder, keys)

    words = st.sampled_from([words for words in readers() if words[0] not in _LONG])
    cases = st.tuples(words, st.integers(0, 9), damages(), st.text("aresuq\n", max_size=5))
    fuzz("commands on damaged input", cases, attempt, record_property, scale=scale, weight=1.5, whole=False)


@SCALES
def test_options_of_any_value_end_in_a_line(driver: Driver, made: Path, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[list[str], list[str]], folder: Path) -> Iterable[Answer]:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        yield ran(driver, [*case[0], *case[1]], folder)

    names = st.sampled_from([name for name in COMMANDS if name not in _LONG or scale > 1])
    cases = names.flatmap(lambda name: st.tuples(st.just([*plain_words(name)]), hostile_options(name)))
    fuzz("options of any value", cases, attempt, record_property, scale=scale, weight=1.5, whole=False)
