"""Error norm: distance of the predicted probabilities from the one-hot targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Scores
from curate.proxy.measures import LiveCheckpoint, MeanLoss, Measure
from curate.proxy.predictions import Predictions, completion_means
from curate.run import Run, trace_for
from curate.types import FloatArray

if TYPE_CHECKING:
    import torch


class ErrorNorm(Component):
    """EL2N: mean over the completion tokens of || p - y ||_2 (Paul et al., arXiv 2107.07075).

    p is the predicted distribution over the vocabulary, y the one-hot vector of the actual token, so the norm
    is between 0 and sqrt(2). Unlike the loss it is bounded: one impossible token does not outweigh a row. The paper
    takes one norm per image early in training, averaged over runs; here one per token, and features are the K norms
    of one run, difficulty their mean. Cost: one forward pass per example and checkpoint, and one for the losses.
    """

    def measures(self) -> Sequence[Measure]:
        return [MeanLoss(), self]

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) mean norms."""
        return completion_means(checkpoint, _norms, 1)

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K)."""
        trace = trace_for(self, examples, run)
        return trace.to_scores(trace.scalars(self), what="error norm")


def _norms(part: Predictions) -> torch.Tensor:
    """(m, 1) norms of m completion tokens."""
    return part.errors().norm(dim=1, keepdim=True)
