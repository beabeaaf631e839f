"""The families by name, in the order in which they run."""

from __future__ import annotations

from benchmarks.when.family import Family
from benchmarks.when.symbols import Symbols

FAMILIES: dict[str, Family] = {family.name: family for family in (Symbols(),)}
