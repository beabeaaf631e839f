"""Study control: the positive control of `curate demo --control` on fresh tasks; a block is a task with its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.confirm.study import rows_of_runs
from curate import Curated
from curate.mixture.control_rows import evened
from curate.seeds import derive_seed
from curate.types import IntArray
from curate.validation.config import SOURCE_BALANCED
from curate.validation.control import control


class Control:
    """Six tasks that no setting was chosen on, two seeds each."""

    name = "control"
    blocks: Sequence[str] = ("200", "201", "202", "203", "204", "205")
    seeds = range(2)
    arms: Sequence[str] = ("original", "hard", "random")
    balanced = True

    def run(self, block: str, out: Path) -> tuple[pa.Table, Mapping[str, Any]]:
        further = source_balanced if self.balanced else None
        record = control(
            out / "control", self.seeds, int(block), arms=self.arms, further=further, cache=out / "cache", device="cpu"
        )
        names = [*self.arms, *([SOURCE_BALANCED] if self.balanced else [])]
        place = out / "control" / "validation" / "runs"
        runs = [(arm, seed, place / f"{arm}-steps-seed{seed}") for arm in names for seed in self.seeds]
        kept = ("task", "seeds", "sizes", "skills", "split", "budget", "verdict")
        return rows_of_runs(runs, "source"), {name: record[name] for name in kept}


class Flakes(Control):
    """How often two seeds fail the test of the control: five other tasks, four pairs of seeds each.

    Not a study of confirmation: what it is about is the test in CI, and only the arms of that.
    """

    name = "flakes"
    blocks: Sequence[str] = ("300", "301", "302", "303", "304")
    seeds = range(8)
    balanced = False


def source_balanced(curated: Curated) -> Mapping[str, IntArray]:
    """As many copies as the hard arm has, given to the smallest sources."""
    examples, counts = curated.loaded.examples, curated.plan.counts
    sources, seed = examples.sources(), derive_seed(curated.pipeline.seed, "confirm", "source")
    assert sources is not None
    return {SOURCE_BALANCED: 1 + evened(sources.tolist(), int(counts.sum()) - len(counts), seed)}
