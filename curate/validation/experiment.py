"""A validation in progress: its arms, the runs of each seed, their settings, and the deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.engine.protocol import Engine
from curate.errors import ExternalError
from curate.finetuning.config import Finetuning
from curate.models.loading import quiet
from curate.models.scratch import SCRATCH, scratch_model, scratch_tokenizer
from curate.optimizers import SAM, FunctionalSAM
from curate.reweighters import GivenWeights
from curate.seeds import derive_seed
from curate.storage.atomic import publishing
from curate.training.trackers import Callback
from curate.validation.arms import Arm, Arms
from curate.validation.config import BASELINE, FRONT, SHARP, Budget, Validation, copying
from curate.validation.evaluation_rows import Prepared


@dataclass(frozen=True)
class PlannedRun:
    """One fine-tuning of an arm.

    steps: optimizer steps. same_as: name of an identical run, whose result is reused.
    """

    arm: Arm
    budget: Budget
    seed: int
    steps: int
    same_as: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder in OUT/runs."""
        return f"{self.arm.name}-{self.budget}-seed{self.seed}"


def reference_arm(settings: Validation) -> str:
    """The arm whose epochs determine the number of steps of all arms."""
    if copying(settings.pipeline):
        return "hard"
    other_arms = [name for name in settings.named_arms() if settings.data_arm(name) != BASELINE]
    return other_arms[0] if other_arms else BASELINE


def schedule(settings: Validation, seed: int, arms: Mapping[str, Arm], reference: Arm) -> list[PlannedRun]:
    """The runs of one seed: all arms at equal steps, then the baseline, `hard` and additions at equal epochs.

    reference: its epochs determine the equal steps, so that its run is the same at equal epochs.
    """
    batch = settings.finetuning.batch_size
    steps = steps_of(settings.epochs, reference, batch)
    runs = [PlannedRun(arm, "steps", seed, steps) for arm in arms.values()]
    if "epochs" not in settings.budgets:
        return runs
    for name in arms:
        if name not in (BASELINE, "hard", *(addition.name for addition in settings.additions)):
            continue
        own = steps_of(settings.epochs, arms[name], batch)
        same = next((run.name for run in runs if run.arm.name == name and run.steps == own), None)
        runs.append(PlannedRun(arms[name], "epochs", seed, own, same))
    return runs


def steps_of(epochs: float, arm: Arm, batch: int) -> int:
    """Optimizer steps of that many passes over an arm."""
    return max(1, round(epochs * arm.trainable / batch))


@dataclass
class Experiment:
    """A validation in progress. deadline: on `time.monotonic`, after which no run starts; None = no limit.

    engine: its workers fine-tune and evaluate; None = this process.
    """

    settings: Validation
    out: Path
    arms: Arms
    prepared: Prepared
    progress: Progress
    cache: Any = None
    device: str | None = None
    deadline: float | None = None
    log: Sequence[str | Callback] = ()
    engine: Engine | None = None

    def runs(self, seed: int) -> list[PlannedRun]:
        """The runs of a seed; makes the data of its arms."""
        settings = self.settings
        arms = self.arms.of_seed(seed)
        name = reference_arm(settings)
        reference = arms[name] if name in arms else self.arms.get(name, seed)
        return schedule(settings, seed, arms, reference)

    def complete(self, run: PlannedRun) -> bool:
        """Whether a run is trained and evaluated on every set."""
        place = self.out / "runs" / run.name
        files = [place / "evaluation" / evaluation_set.title / "summary.json" for evaluation_set in self.prepared.sets]
        return all(path.is_file() for path in [place / "run.json", *files])

    def stop_in_time(self) -> None:
        """Raise ExternalError if the deadline has passed."""
        self.left()

    def left(self) -> float | None:
        """Seconds until the deadline. Raises ExternalError if it has passed."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise ExternalError("the time limit is reached; rerun the same command to resume")
        return left


def run_settings(settings: Validation, run: PlannedRun, examples: Examples, out: Path) -> Finetuning:
    """The settings of a run: its steps, seed, optimizer, reweighter and model.

    A model from scratch is the same for all arms of a seed: its tokenizer is made from the original data, its weights
    are drawn from the seed.
    """
    tuning = settings.finetuning
    changed: dict[str, Any] = {"steps": run.steps, "seed": run.seed}
    if run.arm.name in SHARP:
        sharp = SAM if run.arm.name == "sam" else FunctionalSAM
        changed["optimizer"] = sharp(base=tuning.optimizer, rho=settings.rho)
    reweighter = settings.reweighter(run.arm.name)
    if settings.data_arm(run.arm.name) == FRONT:
        reweighter = GivenWeights(until=0.5, beside=reweighter)
    if reweighter is not None:
        changed["reweighter"] = reweighter
    if tuning.model == SCRATCH:
        folder = out / "scratch" / f"seed{run.seed}"
        if not folder.is_dir():
            assert isinstance(tuning.max_length, int)  # resolved earlier, one for all arms
            _write_scratch(folder, examples, tuning.max_length, run.seed)
        template = "plain" if tuning.template == "auto" and examples.shape != "messages" else tuning.template
        changed |= {"model": str(folder), "learning_rate": tuning.peak_learning_rate, "template": template}
    return tuning.model_copy(update=changed)


def _write_scratch(folder: Path, examples: Examples, max_length: int, seed: int) -> None:
    tokenizer = scratch_tokenizer(examples, derive_seed(0, "validation", "tokenizer"))
    model = scratch_model(tokenizer, max_length, derive_seed(seed, "validation", "weights"))

    with publishing(folder) as place, quiet():
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
