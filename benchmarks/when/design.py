"""The fixed fractional design of the families symbols and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from benchmarks.when.settings import ARMS, Knows, Setting

# At noise 0 what the model knows beforehand, the share of the rare part and the budget are crossed, with the factor in
# the arms. Noise and rows of an unlearnable kind are crossed with what the model knows at one share and two budgets.

ALL = tuple(ARMS)
PLAIN = tuple(name for name in ARMS if "reducible" not in name)
NOISY = tuple(name for name in ARMS if name not in ("hard x5", "source x3"))
SHARES = (0.05, 0.1, 0.2, 0.4)
FAULTS: tuple[dict[str, float], ...] = ({"noise": 0.05}, {"noise": 0.1}, {"noise": 0.2}, {"unlearnable": 0.15})
MAIN_SHARE = 0.1  # where faults are studied, and reducible rows without faults

# Optimizer steps after which the original arm's loss of the rare skills has fallen to half of what guessing costs:
# means of pilot seeds 100 and 101.
SYMBOLS_T_HARD: Mapping[Knows, Mapping[float, int]] = {
    "nothing": {0.05: 730, 0.1: 460, 0.2: 320, 0.4: 216},
    "frequent": {0.05: 572, 0.1: 350, 0.2: 245, 0.4: 123},
}


# The same of the family text, whose models know the frequent skills; of pilot seed 100.
TEXT_T_HARD: Mapping[Knows, Mapping[float, int]] = {"frequent": {0.05: 40, 0.1: 24, 0.2: 16, 0.4: 14}}


def skills_settings(
    family: str,
    t_hard: Mapping[Knows, Mapping[float, int]],
    rows: int,
    batch_size: int,
    budgets: tuple[float, ...],
    proxy: Literal["same", "small"],
) -> list[Setting]:
    """Clean settings first. budgets: of the clean ones, in t_hard; faults are at the last two."""

    def setting(knows: Knows, share: float, arms: tuple[str, ...], at: tuple[float, ...], **faults: float) -> Setting:
        unit = t_hard[knows][share]
        about: tuple[Any, ...] = (family, knows, share, rows, batch_size, unit, "t_hard", at, arms)
        return Setting(*about, proxy=proxy, **faults)

    clean = [
        setting(knows, share, ALL if share == MAIN_SHARE else PLAIN, budgets) for knows in t_hard for share in SHARES
    ]
    faulty = [setting(knows, MAIN_SHARE, NOISY, budgets[-2:], **fault) for fault in FAULTS for knows in t_hard]
    return clean + faulty


SYMBOLS_SETTINGS = skills_settings("symbols", SYMBOLS_T_HARD, 8_000, 64, (0.25, 0.5, 1, 2), "small")
TEXT_SETTINGS = skills_settings("text", TEXT_T_HARD, 4_000, 32, (1, 2, 4), "same")
SYMBOLS_QUICK = [
    replace(setting, rows=1_000, unit=60, budgets=(1, 2), arms=("original", "hard x3", "random x3"))
    for setting in SYMBOLS_SETTINGS
    if setting.share == MAIN_SHARE and setting.noise in (0, 0.1) and not setting.unlearnable
]
