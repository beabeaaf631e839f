"""The runs of a validation: how many steps each takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.data.readers import read
from curate.optimizers import FunctionalSAM
from curate.reweighters import GivenWeights
from curate.validation.arms import Arm
from curate.validation.config import Validation
from curate.validation.experiment import reference_arm, schedule
from tests.fixtures.validation import Trained, settings, whole


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


def test_copies_in_front_are_weights_of_the_first_half_and_functional_sam_is_an_arm(
    tmp_path: Path, trained: Trained
) -> None:
    whole(tmp_path / "out", arms=("hard", "front", "f-sam", "source-balanced"), seeds=(0,), budgets=("steps",))
    front = read(tmp_path / "out" / "arms" / "front", allow_curated=True).examples.table
    hard = read(tmp_path / "out" / "arms" / "hard", allow_curated=True).examples.table
    assert sum(front["weight"].to_pylist()) == len(hard) > len(front)
    assert trained.settings["front-steps-seed0"].reweighter == GivenWeights(until=0.5)
    assert trained.settings["hard-steps-seed0"].reweighter is None
    assert trained.settings["source-balanced-steps-seed0"].reweighter is None
    assert isinstance(trained.settings["f-sam-steps-seed0"].optimizer, FunctionalSAM)
    assert len({each.steps for each in trained.settings.values()}) == 1
    assert not {"front", "f-sam"} & set(settings().named_arms())  # they are trained only where they are named
