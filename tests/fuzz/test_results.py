"""Damaged results and caches: every command that reads them ends in 0, 2 or 3, and a rerun gives the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.conftest import EVALUATE, RUN, TUNE
from tests.fuzz.damage import KINDS, damage, damages
from tests.fuzz.harness import SCALES, Answer, Driver, Record, fuzz
from tests.fuzz.recipe_strategies import rows_file


def contents(folder: Path) -> dict[str, bytes]:
    names = [path for part in ("data", "tables") for path in sorted((folder / part).glob("*"))]
    return {path.name: path.read_bytes() for path in names}


READERS = [
    ("out", ["inspect", "out"]),
    ("out", ["report", "out"]),
    ("out", ["inspect", "out", "--json", "--examples=2"]),
    ("out", ["finetune", "out", "--model=scratch", "--steps=1", "--max-length=64", "--out=new"]),
    ("out", RUN),
    ("tuned", ["compare", "tuned", "other", "--out=page.html"]),
    ("tuned", [*TUNE, "--reweighter=IRDRO", "--out=tuned"]),
    ("tuned", [*EVALUATE, "--fresh"]),
    ("tuned", EVALUATE),
]


@SCALES
def test_damaged_results_are_refused_or_made_anew(
    driver: Driver, made: Path, scale: int, record_property: Record
) -> None:
    def attempt(case: tuple[Any, Any], folder: Path) -> Iterable[Answer]:
        (part, words), harm = case
        shutil.copytree(made, folder, dirs_exist_ok=True)
        damage(folder / part, harm)
        answer = driver.run(words, folder)
        yield answer
        if part == "out" and answer.status == 0 and words is RUN:
            yield driver.run(["inspect", "out"], folder)

    cases = st.tuples(st.sampled_from(READERS), damages())
    fuzz("finished folders, damaged", cases, attempt, record_property, scale=scale, weight=2, whole=False)


@SCALES
def test_whole_results_are_read(driver: Driver, made: Path, scale: int, record_property: Record) -> None:
    def attempt(case: tuple[str, list[str]], folder: Path) -> Iterable[Answer]:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        yield driver.run(case[1], folder)

    fuzz(
        "finished folders, whole",
        st.sampled_from(READERS),
        attempt,
        record_property,
        scale=min(scale, 5),
        weight=0.4,
        valid=True,
    )


@SCALES
def test_a_rerun_on_a_damaged_cache_gives_the_same_bytes(
    driver: Driver, made: Path, scale: int, record_property: Record
) -> None:
    expected = contents(made / "out")

    def attempt(harm: Any, folder: Path) -> Iterable[Answer]:
        shutil.copytree(made / "cache", folder / "cache")
        (folder / "rows.jsonl").write_text(rows_file())
        damage(folder / "cache", harm)
        answer = driver.run(RUN, folder)
        yield answer
        if answer.status == 0:
            assert contents(folder / "out") == expected, "another result"

    kinds = tuple(kind for kind in KINDS if kind != "extra")
    fuzz("caches, damaged", damages(kinds), attempt, record_property, scale=scale, weight=0.7)
