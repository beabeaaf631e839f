"""Difficulty signals: each says how late an example is learned."""

from scorers.loss_trajectory import FinalLoss, LossTrajectory
from scorers.pre_memorization import PreMemorizationAccuracy
from scorers.rank_average import RankAverage
from scorers.sam_sharpness import SAMSharpness

__all__ = ["FinalLoss", "LossTrajectory", "PreMemorizationAccuracy", "RankAverage", "SAMSharpness"]
