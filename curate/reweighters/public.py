"""Inputs of reweighters and their names in recipes, exported for users of this package."""

from curate.recipe import reweighter_from as reweighter_from
from curate.training.reweighting import BatchOutputs as BatchOutputs
from curate.training.reweighting import OptimizerBatch as OptimizerBatch
from curate.training.reweighting import Training as Training
from curate.training.reweighting import TrainingRows as TrainingRows
