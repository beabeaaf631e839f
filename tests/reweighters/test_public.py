"""The names that users import are those of the training loop and of recipes."""

from __future__ import annotations

import torch

import curate.reweighters
from curate import recipe
from curate.training import reweighting
from tests.fixtures.models import tiny_model
from tests.fixtures.reweighting import run


def test_a_reweighter_gets_the_classes_that_users_import() -> None:
    kinds: set[tuple[type, type]] = set()

    class Looking:
        def weights(
            self, batch: curate.reweighters.OptimizerBatch, outputs: curate.reweighters.BatchOutputs
        ) -> torch.Tensor:
            kinds.add((type(batch), type(outputs)))
            return torch.ones_like(outputs.losses)

    run(tiny_model(), Looking(), steps=1)
    assert kinds == {(curate.reweighters.OptimizerBatch, curate.reweighters.BatchOutputs)}
    assert curate.reweighters.Training is reweighting.Training
    assert curate.reweighters.TrainingRows is reweighting.TrainingRows
    assert curate.reweighters.reweighter_from is recipe.reweighter_from
