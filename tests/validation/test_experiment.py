"""The runs of a validation: how many steps each takes."""

from __future__ import annotations

from typing import Any

from curate.validation.arms import Arm
from curate.validation.config import Validation
from curate.validation.experiment import reference_arm, schedule
from tests.fixtures.validation import settings


def planned(given: Validation, **counts: int) -> list[Any]:
    arms = {name.replace("_", "-"): Arm(name.replace("_", "-"), "", {}, n, n, None, None) for name, n in counts.items()}
    return schedule(given, 0, arms, arms[reference_arm(given)])


def test_every_arm_takes_the_steps_of_the_hard_arm_and_epochs_are_its_own() -> None:
    runs = planned(settings(epochs=3), original=100, hard=140, random=140, sam=100)
    assert {run.name: run.steps for run in runs} == {
        "original-steps-seed0": 42,
        "hard-steps-seed0": 42,
        "random-steps-seed0": 42,
        "sam-steps-seed0": 42,
        "original-epochs-seed0": 30,
        "hard-epochs-seed0": 42,
    }
    assert [run.same_as for run in runs if run.same_as] == ["hard-steps-seed0"]
    assert runs[-1].same_as == "hard-steps-seed0"
    assert {run.budget for run in planned(settings(budgets=("steps",)), original=100, hard=140)} == {"steps"}
