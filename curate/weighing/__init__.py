"""What a reweighter settled on in fine-tuning runs, kept as a column of the dataset."""

from curate.weighing.dataset import Weighed, weigh

__all__ = ["Weighed", "weigh"]
