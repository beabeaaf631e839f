"""The fixed fractional design of arithmetic, gym and word_problems, whose budgets are passes over the rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.when.settings import BASELINE, Knows, Setting

# What the model knows beforehand, the share of the rare part and noise are crossed, each with three budgets; every
# second cell has a proxy smaller than its target, so that no factor goes with the size of the proxy.

_CLEAN = (BASELINE, "hard x2", "hard x3", "random x3", "late x3")
_NOISY = (BASELINE, "hard x2", "hard x3", "random x3", "hard reducible x3")


def _settings(
    family: str, rows: int, batch: int, budgets: Sequence[float], shares: Sequence[float], noises: Sequence[float]
) -> list[Setting]:
    """Clean settings first. budgets: in epochs."""
    settings = []
    known: tuple[Knows, ...] = ("nothing", "frequent")
    for (i, noise), (j, knows), (k, share) in itertools.product(enumerate(noises), enumerate(known), enumerate(shares)):
        small = (i + j + k) % 2 == 0
        settings.append(
            Setting(
                family,
                knows,
                share,
                rows,
                batch,
                rows // batch,
                "epoch",
                tuple(budgets),
                _NOISY if noise else _CLEAN,
                noise=noise,
                proxy="small" if small else "same",
            )
        )
    return settings


ARITHMETIC_SETTINGS = _settings("arithmetic", 1_280, 16, (0.5, 1, 2), (0.05, 0.1, 0.4), (0, 0.1))
ARITHMETIC_QUICK = [
    Setting("arithmetic", "nothing", 0.1, 160, 16, 10, "epoch", (1, 2), (BASELINE, "hard x3", "random x3"), noise)
    for noise in (0, 0.1)
]
GYM_SETTINGS = _settings("gym", 960, 16, (0.67, 1.33, 2.67), (0.1, 0.4), (0, 0.1))
WORD_PROBLEMS_SETTINGS = _settings("word_problems", 480, 16, (1, 2, 4), (0.1, 0.4), (0, 0.15))
# With a proxy that is a pretrained model, which costs a hundred times as much: two cells.
GIVEN_PROXY_SETTINGS = [
    replace(setting, family="word_problems_given", proxy="given")
    for setting in WORD_PROBLEMS_SETTINGS
    if setting.share == 0.1 and setting.knows == "frequent"
]
