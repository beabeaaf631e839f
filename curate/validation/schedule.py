"""Which runs there are, how long each is, and in which order they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curate.validation.arms import Arm
from curate.validation.config import BASELINE, Budget, Validation, copying

__all__ = ["PlannedRun", "reference_arm", "schedule"]


@dataclass(frozen=True)
class PlannedRun:
    """One fine-tuning of an arm.

    steps: optimizer steps. same_as: name of the run that is this very one, so that nothing is trained for it.
    """

    arm: Arm
    budget: Budget
    seed: int
    steps: int
    same_as: str | None = None

    @property
    def name(self) -> str:
        """Its folder under OUT/runs."""
        return f"{self.arm.name}-{self.budget}-seed{self.seed}"


def reference_arm(settings: Validation) -> str:
    """The arm whose epochs decide the number of steps of all."""
    if copying(settings.pipeline):
        return "hard"
    others = [name for name in settings.named_arms() if settings.data_arm(name) != BASELINE]
    return others[0] if others else BASELINE


def schedule(
    settings: Validation, seed: int, arms: Mapping[str, Arm], reference: Arm, also_epochs: Sequence[str]
) -> list[PlannedRun]:
    """The runs of one seed: all at equal steps, then those at equal epochs of the arms in `also_epochs`.

    reference: its epochs make the equal steps, so that at equal epochs its run is the same one.
    """
    batch = settings.finetuning.batch_size
    steps = _steps(settings.epochs, reference, batch)
    runs = [PlannedRun(arm, "steps", seed, steps) for arm in arms.values()]
    if "epochs" not in settings.budgets:
        return runs
    for name in also_epochs:
        own = _steps(settings.epochs, arms[name], batch)
        same = next((run.name for run in runs if run.arm.name == name and run.steps == own), None)
        runs.append(PlannedRun(arms[name], "epochs", seed, own, same))
    return runs


def _steps(epochs: float, arm: Arm, batch: int) -> int:
    return max(1, round(epochs * arm.trainable / batch))
