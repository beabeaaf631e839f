"""The families by name, in the order in which they run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.when.arithmetic import Arithmetic
from benchmarks.when.family import Family
from benchmarks.when.gym import Gym
from benchmarks.when.stored import DATA
from benchmarks.when.symbols import Symbols
from benchmarks.when.text import Text
from benchmarks.when.word_problems import WordProblems


def families(data: Path = DATA, proxy_model: Path | None = None) -> dict[str, Family]:
    """data: folder of the files that some of them read. proxy_model: of a family more, whose proxy it is."""
    all_families: list[Family] = [Symbols(), Text(), Arithmetic(), Gym(data), WordProblems(data)]
    if proxy_model is not None:
        all_families.append(WordProblems(data, proxy_model))
    return {family.name: family for family in all_families}


FAMILIES = families()
