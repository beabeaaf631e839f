"""Study arithmetic: the protocol of `benchmarks.reproduce` on fresh seeds; a block is a seed with all its arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.confirm.study import rows_of_runs
from benchmarks.reproduction.settings import BALANCED, BASELINE, FROZEN, Job
from benchmarks.reproduction.work import work

# The settings that the records of the earlier seeds speak for, see benchmarks/LOG.md: the same number of copies as
# `hard x2` would not do as a control, since clusters per family hold another share of the rows.
_NEW = FROZEN.model_copy(update={"per_source": True})
ARMS = {
    "original": (BASELINE, FROZEN),
    "hard": ("hard", _NEW),
    "random": ("random", _NEW),
    "source-balanced": (BALANCED, _NEW),
    "hard x2": ("hard", FROZEN),
}


class Arithmetic:
    """Six seeds that no earlier record has."""

    name = "arithmetic"
    blocks: Sequence[str] = ("40", "41", "42", "43", "44", "45")

    def run(self, block: str, out: Path) -> tuple[pa.Table, Mapping[str, Any]]:
        jobs = [Job(arm, of, int(block), "steps", settings) for arm, (of, settings) in ARMS.items()]
        work(jobs, out, None)
        table = rows_of_runs([(job.name, job.seed, out / "runs" / job.folder) for job in jobs], "level")
        return table, {"settings": FROZEN.written, "new": _NEW.written}
