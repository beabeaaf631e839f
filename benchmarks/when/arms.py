"""From an arm to how often each row is shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from augmenters import Duplicate
from benchmarks.when.family import Counts, Phase
from benchmarks.when.settings import Arm
from curate import Split, fold
from curate.mixture.control_rows import evened, stand_ins
from curate.seeds import derive_seed

Mask = npt.NDArray[np.bool_]


def counts_of(arm: Arm, rows: pa.Table, split: Split, reducible: Mask | None, seed: int) -> Counts:
    """(n,) how often each of the n rows is shown. reducible: (n,), for arms that ask for it.

    InputError for a control of which there is no row, such as easy rows that are reducible where easy rows are learned.
    """
    ones = np.ones(len(split), np.int64)
    if arm.of == "none":
        return ones
    if arm.of == "late":
        return ones + (arm.factor - 1) * rows["rare"].to_numpy(zero_copy_only=False)
    if arm.of == "source":
        copies = (arm.factor - 1) * int(split.hard.sum())
        return ones + evened(rows["source"].to_pylist(), copies, derive_seed(seed, "when", "source"))
    if not arm.reducible:
        augmenter = Duplicate.model_validate({"times": arm.factor - 1, "of": arm.of})
        return fold([augmenter], split, seed).counts.astype(np.int64)
    if reducible is None:
        raise ValueError(f"{arm.name} needs to know which rows are reducible")
    hard = np.flatnonzero(split.hard & reducible)
    chosen = hard
    if arm.of != "hard":
        generator = np.random.default_rng(derive_seed(seed, "when", arm.of))
        chosen = stand_ins(arm.of, hard, split, reducible, generator)
    counts = ones.copy()
    np.add.at(counts, chosen, arm.factor - 1)
    if arm.drop:
        counts[split.hard & ~reducible] = 0
    return counts


def phases_of(arm: Arm, counts: Counts, steps: int) -> list[Phase]:
    """How a run of so many steps is divided."""
    whole = Phase(steps, counts)
    return [Phase(steps // 2, counts), Phase(steps, np.ones_like(counts))] if arm.front else [whole]
