"""Forgetting events: how often an example is learned and unlearned again during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.measures import LiveCheckpoint, MeanLoss, Measure
from curate.proxy.predictions import Predictions, completion_means
from curate.proxy.proxy import Schedule
from curate.run import Run, trace_for
from curate.types import FloatArray

if TYPE_CHECKING:
    import torch


class TokenAccuracy(Component):
    """Share of an example's completion tokens that the model ranks first, given the true tokens before them."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) shares in [0, 1]; NaN for rows without completion text."""
        return completion_means(checkpoint, _right, 1)


def _right(part: Predictions) -> torch.Tensor:
    """(m, 1) whether each of m completion tokens is the most likely one."""
    return (part.logits().argmax(1) == part.targets)[:, None]


class ForgettingCount(Component):
    """Number of transitions from learned to unlearned between checkpoints (Toneva et al., arXiv 1812.05159).

    In the paper an image is learned when its class is the most likely one. A completion is many predictions, and a
    proxy rarely gets all of them right, so here a row is learned at a checkpoint where the greedy prediction is right
    for at least `threshold` of its completion tokens. Accuracy is used rather than loss since its scale does not depend
    on the data, and for one-token completions it is the paper's criterion. A row that is never learned counts K, more
    than any row can forget, as the paper ranks such rows last.

    There are only K checkpoints, where the paper measures in every epoch: with few of them most counts are 0 or K.
    Features and difficulty are the count. Needs at least two checkpoints. Cost: one forward pass per example and
    checkpoint, and one for the losses.
    """

    threshold: float = Field(default=0.5, gt=0, le=1)

    def measures(self) -> Sequence[Measure]:
        return [MeanLoss(), TokenAccuracy()]

    def check_schedule(self, schedule: Schedule) -> None:
        """Raises InputError if there is only one checkpoint."""
        if len(schedule.steps) < 2:
            raise InputError("ForgettingCount needs two checkpoints or more; set proxy.checkpoints to at least 2")

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, 1). Raises InputError if no row is ever learned."""
        trace = trace_for(self, examples, run)
        accuracy = trace.scalars(TokenAccuracy())  # (n, K)
        learned = accuracy >= self.threshold  # (n, K)
        if not learned.any():
            raise InputError(
                f"no row is learned at any checkpoint (highest share of right tokens {np.nanmax(accuracy):.2f}); lower "
                f"ForgettingCount.threshold (now {self.threshold:g}) or raise proxy.steps"
            )
        events = (learned[:, :-1] & ~learned[:, 1:]).sum(axis=1)  # (n,)
        count = np.where(learned.any(axis=1), events, learned.shape[1]).astype(np.float32)
        return trace.to_scores(count[:, None])
