"""Family text: skills as lines of text, learned by a small transformer that knows the frequent ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks.when.design import TEXT_SETTINGS
from benchmarks.when.language import LanguageTask, Material, Training
from benchmarks.when.settings import Setting
from benchmarks.when.skills import FREQUENT, RARE, SKILLS, UNLEARNABLE, drawn, mixture_of, training_rows

LENGTH = 6  # symbols of a row
TEST_ROWS = 480
PRETRAIN_ROWS = 6_000
KNOWN_WORDS = 6  # rows of each rare skill in pretraining, so that its name is known


def _corpus() -> pa.Table:
    return drawn(dict.fromkeys((*SKILLS, UNLEARNABLE), 1.0), 900, LENGTH, 0, "corpus")


TRAINING = Training(
    corpus=_corpus,
    max_length=32,
    shapes={"target": (64, 2), "small": (32, 1)},
    pretrain_steps=1_000,
    pretrain_rate=3e-3,
    rate=1e-3,
    proxy_steps=30,
)


class Text:
    name = "text"

    def prepare(self, setting: Setting, seed: int, cache: Path) -> LanguageTask:
        return LanguageTask(setting, seed, material(setting, seed), TRAINING, cache)

    def settings(self) -> Sequence[Setting]:
        return TEXT_SETTINGS

    def seeds(self) -> Sequence[int]:
        return range(5)

    def quick(self) -> Sequence[Setting]:
        return ()


def material(setting: Setting, seed: int) -> Material:
    known = drawn(dict.fromkeys(FREQUENT, 1.0), PRETRAIN_ROWS, LENGTH, seed, "pretrain")
    words = drawn(dict.fromkeys(RARE, 1.0), KNOWN_WORDS * len(RARE), LENGTH, seed, "words")
    known = pa.concat_tables([known, words])
    known = known.set_column(0, "id", pa.array([f"k{i:05d}" for i in range(len(known))]))
    return Material(
        training_rows(setting, LENGTH, seed),
        mixture_of(setting.share),
        drawn(dict.fromkeys(SKILLS, 1.0), TEST_ROWS, LENGTH, seed, "test"),
        known,
    )
