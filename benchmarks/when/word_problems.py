"""Family word_problems: one- and two-step problems as the frequent part, systems of equations as the rare part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.when.epoch_design import GIVEN_PROXY_SETTINGS, WORD_PROBLEMS_SETTINGS
from benchmarks.when.language import LanguageTask, Training
from benchmarks.when.settings import Setting
from benchmarks.when.stored import DATA, corpus, known_part, material_of, place_of, split_shares, stored_rows

# ASDiv and MAWPS are frequent, ALG514 and DRAW-1K rare.

FREQUENT = ("asdiv", "mawps")
RARE = ("simuleq",)
FILES = ("word_problems", "simuleq")
_TEST_ROWS = 60  # of each source
_HELD_OUT = 10  # one ASDiv row of so many is asked, since ASDiv has no test split


@dataclass
class WordProblems:
    """data: folder of word_problems.parquet and simuleq.parquet. proxy_model: of a pretrained proxy; None = scratch."""

    data: Path = DATA
    proxy_model: Path | None = None

    @property
    def name(self) -> str:
        return "word_problems" if self.proxy_model is None else "word_problems_given"

    def prepare(self, setting: Setting, seed: int, cache: Path) -> LanguageTask:
        rows = self._rows()
        train, test = ([row for row in rows if row["asked"] is wanted] for wanted in (False, True))
        shares = split_shares(FREQUENT, RARE, setting.share)
        material = material_of(setting, seed, train, test, RARE, shares, _TEST_ROWS)
        return LanguageTask(setting, seed, material, self.training, cache, self.proxy_model)

    @property
    def training(self) -> Training:
        shapes = {"target": (48, 2), "small": (24, 1)}
        scratch = Training(corpus(self._rows), 96, shapes, pretrain_steps=400)
        if self.proxy_model is None:
            return scratch
        return replace(scratch, proxy_steps=12, checkpoints=2, proxy_rate=1e-4)

    def settings(self) -> Sequence[Setting]:
        for name in FILES:
            place_of(self.data, name)
        return WORD_PROBLEMS_SETTINGS if self.proxy_model is None else GIVEN_PROXY_SETTINGS

    def seeds(self) -> Sequence[int]:
        return range(3 if self.proxy_model is None else 1)

    def quick(self) -> Sequence[Setting]:
        return ()  # its files are not in the repository

    def _rows(self) -> list[dict[str, Any]]:
        """Rows with their group, the source, and whether they are asked."""
        rows = []
        for place, row in enumerate([row for name in FILES for row in stored_rows(self.data, name)]):
            source = "simuleq" if row["source"] in ("alg514", "draw") else row["source"]
            is_question = (
                not known_part(row) and place % _HELD_OUT == 0 if source == "asdiv" else row["split"] != "train"
            )
            rows.append(row | {"source": source, "group": source, "asked": is_question})
        return rows
