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


def families(data: Path = DATA) -> dict[str, Family]:
    """data: folder of the files that some of them read."""
    return {family.name: family for family in (Symbols(), Text(), Arithmetic(), Gym(data), WordProblems(data))}


FAMILIES = families()
