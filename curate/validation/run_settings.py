"""The model and settings of each run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.data.examples import Examples
from curate.models.loading import quiet
from curate.models.scratch import SCRATCH, scratch_model, scratch_tokenizer
from curate.optimizers import SAM
from curate.seeds import derive_seed
from curate.storage.atomic import publishing
from curate.validation.config import Validation
from curate.validation.schedule import PlannedRun

__all__ = ["model_for"]


def model_for(settings: Validation, run: PlannedRun, examples: Examples, out: Path) -> Any:
    """Settings of a run (`curate.finetuning.Finetuning`): its steps, seed, optimizer, reweighter and model.

    A model from scratch is the same for all arms of a seed: its tokenizer is made of the data as it is, its weights are
    drawn from the seed.
    """
    tuning = settings.finetuning
    changed: dict[str, Any] = {"steps": run.steps, "seed": run.seed}
    if run.arm.name == "sam":
        changed["optimizer"] = SAM(base=tuning.optimizer, rho=settings.rho)
    reweighter = settings.reweighter(run.arm.name)
    if reweighter is not None:
        changed["reweighter"] = reweighter
    if tuning.model == SCRATCH:
        folder = out / "scratch" / f"seed{run.seed}"
        if not folder.is_dir():
            assert isinstance(tuning.max_length, int)  # one for all arms, found out before
            _make(folder, examples, tuning.max_length, run.seed)
        template = "plain" if tuning.template == "auto" and examples.shape != "messages" else tuning.template
        changed |= {"model": str(folder), "learning_rate": tuning.peak_learning_rate, "template": template}
    return tuning.model_copy(update=changed)


def _make(folder: Path, examples: Examples, max_length: int, seed: int) -> None:
    tokenizer = scratch_tokenizer(examples, derive_seed(0, "validation", "tokenizer"))
    model = scratch_model(tokenizer, max_length, derive_seed(seed, "validation", "weights"))

    with publishing(folder) as place, quiet():
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
