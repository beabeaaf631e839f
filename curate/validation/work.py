"""A validation under way: its data, arms and deadline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.console.progress import Progress
from curate.errors import ExternalError
from curate.validation.arms import Arms
from curate.validation.config import BASELINE, Validation
from curate.validation.evaluation_rows import Prepared
from curate.validation.schedule import PlannedRun, reference_arm, schedule

__all__ = ["Work"]


@dataclass
class Work:
    """A validation under way. deadline: of `time.monotonic`, after which nothing new is begun; None = no limit."""

    settings: Validation
    out: Path
    arms: Arms
    prepared: Prepared
    progress: Progress
    cache: Any = None
    device: str | None = None
    deadline: float | None = None

    def runs(self, seed: int) -> list[PlannedRun]:
        """Of a seed; makes the data of its arms."""
        settings = self.settings
        arms = {name: self.arms.get(name, seed) for name in settings.named_arms()}
        name = reference_arm(settings)
        reference = arms[name] if name in arms else self.arms.get(name, seed)
        added = [each.name for each in settings.additions]
        both = [each for each in arms if each in (BASELINE, "hard", *added)]
        return schedule(settings, seed, arms, reference, both)

    def complete(self, run: PlannedRun) -> bool:
        """Whether a run is trained and was evaluated on every set."""
        place = self.out / "runs" / run.name
        files = [place / "evaluation" / each.title / "summary.json" for each in self.prepared.sets]
        return all(path.is_file() for path in [place / "run.json", *files])

    def stop_in_time(self) -> None:
        """Raises ExternalError where the deadline has passed."""
        self.left()

    def left(self) -> float | None:
        """Seconds until the deadline. Raises ExternalError where it has passed."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise ExternalError("the time limit is reached; the same command goes on from here")
        return left
