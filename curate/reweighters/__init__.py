"""Online reweighting: how much each example of an optimizer batch counts, decided while the model trains.

Parameters are frozen components. `curate.reweighting` says what a reweighter is told; `curate.reweighters.trainers`
lets one work in a trainer of transformers or TRL, `example_losses` in any loop.
"""

from curate.reweighters.adapt import ADAPT
from curate.reweighters.alignment import DGA
from curate.reweighters.given import GivenWeights
from curate.reweighters.losses import IRDRO, DynamicLoss, Selective, example_losses
from curate.reweighters.named import reweighter_from
from curate.reweighting import BatchOutputs, OptimizerBatch, Training, TrainingRows

__all__ = [
    "ADAPT",
    "DGA",
    "IRDRO",
    "BatchOutputs",
    "DynamicLoss",
    "GivenWeights",
    "OptimizerBatch",
    "Selective",
    "Training",
    "TrainingRows",
    "example_losses",
    "reweighter_from",
]
