"""Family gym: tasks of reasoning_gym with final answers, four of them frequent and four rare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.when.epoch_design import GYM_SETTINGS
from benchmarks.when.language import LanguageTask, Training
from benchmarks.when.settings import Setting
from benchmarks.when.stored import DATA, corpus, material_of, place_of, split_shares, stored_rows

FREQUENT = ("chain_sum", "basic_arithmetic", "simple_equations", "decimal_chain_sum")
RARE = ("complex_arithmetic", "fraction_simplification", "prime_factorization", "lcm")
FILE = "reasoning_gym_math"
_TEST_ROWS = 40  # of each task


@dataclass
class Gym:
    """data: folder of reasoning_gym_math.parquet."""

    data: Path = DATA
    name: str = "gym"

    def prepare(self, setting: Setting, seed: int, cache: Path) -> LanguageTask:
        shares = split_shares(FREQUENT, RARE, setting.share)
        material = material_of(setting, seed, self._rows("train"), self._rows("test"), RARE, shares, _TEST_ROWS)
        return LanguageTask(setting, seed, material, self.training, cache)

    @property
    def training(self) -> Training:
        shapes = {"target": (64, 2), "small": (32, 1)}
        return Training(corpus(lambda: self._rows("train")), 96, shapes, pretrain_steps=500)

    def settings(self) -> Sequence[Setting]:
        place_of(self.data, FILE)
        return GYM_SETTINGS

    def seeds(self) -> Sequence[int]:
        return range(3)

    def quick(self) -> Sequence[Setting]:
        return ()  # its file is not in the repository

    def _rows(self, split: str) -> list[dict[str, Any]]:
        return [
            row | {"answer": row["final_answer"], "source": row["subject"], "group": row["subject"]}
            for row in stored_rows(self.data, FILE)
            if row["split"] == split and row["subject"] in (*FREQUENT, *RARE)
        ]
