"""Loss trajectories: how the loss of an example falls while a proxy is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from curate.component import Component
from curate.errors import InputError
from curate.measures import MeanLoss
from curate.protocols import Floats
from curate.run import Run, standalone
from curate.scores import Scores

if TYPE_CHECKING:
    from curate.proxy import Schedule

__all__ = ["FinalLoss", "LossTrajectory"]


class LossTrajectory(Component):
    """Loss trajectory of every example (arXiv 2602.00576; S2L, arXiv 2403.07384).

    features:
        absolute: the K losses in nats per token. Selects what is learned late.
        relative: the K - 1 ratios loss[k] / loss[k - 1] (1 where that is not finite). Selects flat curves: also
            easy examples that have already converged, and it amplifies noise where losses are near 0.
        final: the last loss alone.
    Difficulty is the mean of the features: mean loss, mean ratio, or last loss.
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
        trajectory = found.of(MeanLoss())[:, :, 0]
        _check_finite(trajectory, found.valid, examples.ids, found.schedule.steps)
        features = np.where(found.valid[:, None], _features(trajectory, self.features), 0).astype(np.float32)
        difficulty = np.where(found.valid, features.mean(axis=1), np.nan).astype(np.float32)
        return Scores(
            features=features,
            difficulty=difficulty,
            valid=found.valid,
            trajectory=trajectory,
            steps=found.schedule.steps,
            tokens=found.tokens,
            ids=examples.ids,
        )


class FinalLoss(Component):
    """Loss at the last checkpoint in nats per token: what is left of a trajectory without its history."""

    def measures(self) -> Sequence[MeanLoss]:
        return [MeanLoss()]

    def check_schedule(self, schedule: Schedule) -> None:
        """Any schedule serves."""

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, 1)."""
        return LossTrajectory(features="final").score(examples, run)


def _features(trajectory: Floats, kind: str) -> Floats:
    if kind == "absolute":
        return trajectory
    if kind == "final":
        return trajectory[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = trajectory[:, 1:] / trajectory[:, :-1]
    return np.where(np.isfinite(ratios), ratios, 1).astype(np.float32)


def _check_finite(trajectory: Floats, valid: npt.NDArray[np.bool_], ids: Any, steps: npt.NDArray[np.int64]) -> None:
    bad = valid & ~np.isfinite(trajectory).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        step = int(steps[np.flatnonzero(~np.isfinite(trajectory[row]))[0]])
        raise InputError(
            f"the loss of {int(bad.sum())} valid rows is not finite, first row {row} (id {ids[row].as_py()}) at step "
            f"{step}; lower proxy.learning_rate, or set proxy.precision to float32"
        )
