"""Difficulty signals: each says how late an example is learned."""

from scorers.combinations import Product, RankAverage
from scorers.early_output import EarlyOutput
from scorers.error_norm import ErrorNorm
from scorers.forgetting import ForgettingCount
from scorers.gradient_alignment import GradientAlignment
from scorers.instruction_following import InstructionFollowingDifficulty
from scorers.learnability import Learnability
from scorers.length import Length
from scorers.loss_trajectory import FinalLoss, LossTrajectory
from scorers.pre_memorization import PreMemorizationAccuracy
from scorers.sam_sharpness import SAMSharpness

__all__ = [
    "EarlyOutput",
    "ErrorNorm",
    "FinalLoss",
    "ForgettingCount",
    "GradientAlignment",
    "InstructionFollowingDifficulty",
    "Learnability",
    "Length",
    "LossTrajectory",
    "PreMemorizationAccuracy",
    "Product",
    "RankAverage",
    "SAMSharpness",
]
