"""Loss trajectories: how the loss of an example falls while a proxy is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from curate.component import Component
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Schedule
from curate.run import Run, standalone
from curate.types import FloatArray

__all__ = ["FinalLoss", "LossTrajectory"]


class LossTrajectory(Component):
    """Loss trajectory of every example (arXiv 2602.00576; S2L, arXiv 2403.07384).

    features:
        absolute: the K losses in nats per token. Selects what is learned late.
        relative: the K - 1 ratios loss[k] / loss[k - 1] (1 where that is not finite). Selects flat curves: also
            easy examples that have already converged, and it amplifies noise where losses are near 0.
        final: the last loss alone.
    Difficulty is the mean of the features: mean loss, mean ratio, or last loss.

    Departures from the authors' code: prompt and completion are tokenised apart, so that the border between them is
    exact; a row whose completion is cut off altogether is invalid, where theirs counts it as one of loss 0.
    """

    features: Literal["absolute", "relative", "final"] = "absolute"

    def measures(self) -> Sequence[MeanLoss]:
        return [MeanLoss()]

    def check_schedule(self, schedule: Schedule) -> None:
        """Raises InputError where ratios are asked for and there is only one checkpoint."""
        if self.features == "relative" and len(schedule.steps) < 2:
            raise InputError(
                "LossTrajectory(features='relative') needs two checkpoints or more; set proxy.checkpoints to at least 2"
            )

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K), (n, K - 1) or (n, 1).

        examples: Examples, or any dataset `curate.read` takes. Raises InputError where the loss of a valid row
        is not finite.
        """
        examples, run = standalone(examples, run)
        found = run.trace(examples, self.measures())
        self.check_schedule(found.schedule)
        losses = found.of(MeanLoss())[:, :, 0]
        return found.to_scores(examples, losses, _features(losses, self.features))


class FinalLoss(Component):
    """Loss at the last checkpoint in nats per token: what is left of a trajectory without its history."""

    def measures(self) -> Sequence[MeanLoss]:
        return [MeanLoss()]

    def check_schedule(self, schedule: Schedule) -> None:
        """Any schedule serves."""

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, 1)."""
        return LossTrajectory(features="final").score(examples, run)


def _features(trajectory: FloatArray, kind: str) -> FloatArray:
    if kind == "absolute":
        return trajectory
    if kind == "final":
        return trajectory[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = trajectory[:, 1:] / trajectory[:, :-1]
    return np.where(np.isfinite(ratios), ratios, 1).astype(np.float32)
