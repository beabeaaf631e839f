"""Reweighters as arms of a validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from augmenters import Duplicate, Subset
from curate.clusterers import Quantile
from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.pipeline import Pipeline
from curate.reweighters import IRDRO, DynamicLoss, GivenWeights
from curate.validation.arms import Arm
from curate.validation.config import Validation
from curate.validation.experiment import PlannedRun, run_settings
from scorers import LossTrajectory


def validation(*augmenters: Any, **fields: Any) -> Validation:
    recipe = Pipeline(scorer=LossTrajectory(), clusterer=Quantile(q=0.25), augmenters=augmenters or (Duplicate(),))
    return Validation(**{"pipeline": recipe, "finetuning": Finetuning(model="m"), "seeds": (0,)} | fields)


def test_every_reweighter_is_an_arm_on_the_data_and_one_on_the_hard_arm() -> None:
    given = validation(reweighters={"irdro": IRDRO(), "mild": DynamicLoss(r=9)})
    assert given.named_arms()[-5:] == ("sam", "irdro", "mild", "hard+irdro", "hard+mild")
    assert [given.data_arm(name) for name in ("irdro", "hard+mild", "sam", "easy")] == [
        "original",
        "hard",
        "original",
        "easy",
    ]
    assert given.reweighter("hard+mild") == DynamicLoss(r=9)
    assert given.reweighter("hard") is None
    chosen = validation(reweighters={"irdro": IRDRO()}, arms=("hard+irdro",))
    assert chosen.named_arms() == ("original", "hard+irdro")
    without = validation(Subset(size=0.5), reweighters={"irdro": IRDRO()})
    assert without.named_arms() == ("original", "sam", "irdro")


def test_names_of_reweighters_and_arms_that_cannot_be() -> None:
    for name in ("hard", "a b", "sam"):
        with pytest.raises(ValueError, match="a reweighter cannot be called"):
            validation(reweighters={name: IRDRO()})
    with pytest.raises(ValueError, match="did you mean 'hard\\+irdro'"):
        validation(reweighters={"irdro": IRDRO()}, arms=("hard-irdro",))
    with pytest.raises(InputError, match="the recipe copies no hard rows"):
        validation(Subset(size=0.5), reweighters={"irdro": IRDRO()}, arms=("hard+irdro",))


def test_an_arm_with_a_reweighter_differs_in_it_alone(tmp_path: Path) -> None:
    given = validation(reweighters={"irdro": IRDRO()})

    def settings_of(name: str) -> Finetuning:
        run = PlannedRun(Arm(name, "", {}, 10, 10, None, None), "steps", 3, 7)
        found: Finetuning = run_settings(given, run, None, tmp_path)
        return found

    assert settings_of("irdro").reweighter == settings_of("hard+irdro").reweighter == IRDRO()
    assert settings_of("hard").reweighter is None
    assert settings_of("irdro").model_copy(update={"reweighter": None}) == settings_of("original")


def test_copies_in_the_first_part_beside_a_reweighter(tmp_path: Path) -> None:
    given = validation(reweighters={"irdro": IRDRO()}, arms=("hard", "front+irdro"))
    assert given.named_arms() == ("original", "hard", "front+irdro")
    assert given.data_arm("front+irdro") == "front"
    run = PlannedRun(Arm("front+irdro", "", {}, 10, 10, None, None), "steps", 3, 7)
    found = run_settings(given, run, None, tmp_path).reweighter
    assert found == GivenWeights(until=0.5, beside=IRDRO())
    with pytest.raises(ValueError, match="did you mean 'front\\+irdro'"):
        validation(reweighters={"irdro": IRDRO()}, arms=("irdro + front",))
    with pytest.raises(ValueError, match="did you mean 'f-sam'"):
        validation(arms=("f-SAM",))
