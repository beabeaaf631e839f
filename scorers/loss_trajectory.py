"""Loss trajectories: the loss of an example at every checkpoint of the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from curate.component import Component
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Schedule
from curate.run import Run, trace_for
from curate.types import FloatArray


class LossTrajectory(Component):
    """Loss trajectory of every example (arXiv 2602.00576; S2L, arXiv 2403.07384).

    features:
        absolute: the K losses in nats per token. Selects what is learned late.
        relative: the K - 1 ratios loss[k] / loss[k - 1] (1 where that is not finite). Selects flat curves: also
            easy examples that have already converged, and it amplifies noise where losses are near 0.
        final: the last loss alone.
    Difficulty is the mean of the features: mean loss, mean ratio, or last loss.

    Departures from the authors' code: prompt and completion are tokenized separately, so that the boundary between them
    is exact; a row whose completion is truncated completely is invalid, where their code gives it loss 0.
    """

    features: Literal["absolute", "relative", "final"] = "absolute"

    def measures(self) -> Sequence[MeanLoss]:
        return [MeanLoss()]

    def check_schedule(self, schedule: Schedule) -> None:
        """Raises InputError for relative features with only one checkpoint."""
        if self.features == "relative" and len(schedule.steps) < 2:
            raise InputError(
                "LossTrajectory(features='relative') needs two checkpoints or more; set proxy.checkpoints to at least 2"
            )

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K), (n, K - 1) or (n, 1).

        examples: Examples, or any dataset that `curate.read` takes. Raises InputError if the loss of a valid row is not
        finite.
        """
        trace = trace_for(self, examples, run)
        return trace.to_scores(_features(trace.losses, self.features))


class FinalLoss(Component):
    """Loss at the last checkpoint in nats per token, without the history of the trajectory."""

    def measures(self) -> Sequence[MeanLoss]:
        return [MeanLoss()]

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, 1)."""
        trace = trace_for(self, examples, run)
        return trace.to_scores(trace.losses[:, -1:])


def _features(trajectory: FloatArray, kind: str) -> FloatArray:
    """(n, K), (n, K - 1) or (n, 1) features of losses (n, K); kind: see `LossTrajectory.features`."""
    if kind == "absolute":
        return trajectory
    if kind == "final":
        return trajectory[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = trajectory[:, 1:] / trajectory[:, :-1]
    return np.where(np.isfinite(ratios), ratios, 1).astype(np.float32)
