"""Family arithmetic: the problems of the reproduction, with levels 1 and 2 frequent and 3 and 4 rare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks.reproduction.problems import LEVELS, problems
from benchmarks.when.epoch_design import ARITHMETIC_QUICK, ARITHMETIC_SETTINGS
from benchmarks.when.language import LanguageTask, Material, Training, with_faults
from benchmarks.when.settings import Setting

# The models are smaller than the reproduction's (two layers of width 64 instead of three of 96) and see fewer rows.

RARE = ("3", "4")
_PRETRAIN_ROWS = 12_000
_TEST_ROWS = 320
_TEST_SEED = 9_100


def _corpus() -> pa.Table:
    return problems(2_000, dict.fromkeys(LEVELS, 1.0), "pretrain", 0)


TRAINING = Training(corpus=_corpus, max_length=64, shapes={"target": (64, 2), "small": (32, 1)}, pretrain_steps=1_000)


def mixture_of(share: float) -> dict[int, float]:
    """Level -> share of the clean rows; `share` is that of levels 3 and 4 together."""
    return {1: 0.7 * (1 - share), 2: 0.3 * (1 - share), 3: share * 2 / 3, 4: share / 3}


def material(setting: Setting, seed: int) -> Material:
    mixture = mixture_of(setting.share)
    rows = problems(setting.rows, mixture, "train", seed)
    levels = rows["level"].to_pylist()
    rows = pa.table(
        {name: rows[name] for name in ("id", "question", "answer", "source")}
        | {
            "group": rows["level"],
            "rare": pa.array([level in RARE for level in levels]),
            "fault": pa.array([""] * len(rows), pa.string()),
        }
    )
    test = problems(_TEST_ROWS, dict.fromkeys(LEVELS, 1.0), "test", _TEST_SEED)
    return Material(
        with_faults(rows, setting.noise, seed),
        {str(level): share for level, share in mixture.items()},
        test.append_column("group", test["level"]),
        problems(_PRETRAIN_ROWS, {1: 0.7, 2: 0.3}, "pretrain", seed),
    )


class Arithmetic:
    name: str = "arithmetic"

    def prepare(self, setting: Setting, seed: int, cache: Path) -> LanguageTask:
        return LanguageTask(setting, seed, material(setting, seed), TRAINING, cache)

    def settings(self) -> Sequence[Setting]:
        return ARITHMETIC_SETTINGS

    def seeds(self) -> Sequence[int]:
        return range(5)

    def quick(self) -> Sequence[Setting]:
        return ARITHMETIC_QUICK
