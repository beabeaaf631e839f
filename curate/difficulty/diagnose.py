"""Look at a split: numbers about it, and the warnings that they deserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from curate.difficulty.diagnostics import Diagnostics, measure_split
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split import HardPolicy
from curate.difficulty.split_warnings import Truncated, run_warnings

__all__ = ["diagnose"]


def diagnose(
    scores: Scores,
    split: Split,
    *,
    clusterer: Any = None,
    hard: HardPolicy = "highest",
    tokens: npt.NDArray[Any] | None = None,
    seed: int = 0,
    counts: npt.NDArray[Any] | None = None,
    uses_hard: bool = True,
    truncated: Truncated | None = None,
    others: Sequence[Split] = (),
) -> Diagnostics:
    """Look at `split`, which was made from `scores` (joined by id).

    clusterer, hard: those of the split, to make the one by final loss that feature_agreement compares with, and to
        know which sources it cannot cluster.
    tokens: (n,) completion tokens in the order of the split; default: those of the scores.
    counts: (n,) how often each row is planned, for the share of hard rows in the new mixture; None = not known.
    uses_hard: whether it matters which rows are hard; if not, none being hard is no warning.
    truncated: how many rows the proxy saw only in part; None = not known.
    others: splits of the same rows under other proxy seeds.

    InputError if a valid row's trajectory is not finite, or the rows of the splits differ.
    """
    found = measure_split(scores, split, clusterer=clusterer, hard=hard, tokens=tokens, seed=seed, others=others)
    warnings = run_warnings(found, split, clusterer=clusterer, counts=counts, uses_hard=uses_hard, truncated=truncated)
    return replace(found, warnings=warnings)
