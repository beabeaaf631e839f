"""Model outputs early in training as features for clustering (USEFUL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from curate import models
from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.measures import LiveCheckpoint, MeanLoss, Measure
from curate.proxy.predictions import Predictions, completion_means, projection
from curate.proxy.proxy import Schedule
from curate.run import Run, trace_for
from curate.seeds import derive_seed
from curate.types import FloatArray

if TYPE_CHECKING:
    import torch


class EarlyOutput(Component):
    """Outputs at one early checkpoint as features, the loss there as difficulty (USEFUL, arXiv 2404.17768).

    USEFUL trains an image classifier for 5 to 10 % of its epochs, clusters the output vectors of each class in two, and
    shows the cluster of higher mean loss twice. A language model has neither one output vector per example nor classes,
    but a hidden state and a next-token distribution at every position. So an output here is a mean over the completion
    tokens, and clusters are computed per source (`KMeans(per="source")`), the closest analog of a class.
    The recipe is `useful`. Difficulty only orders the clusters; the features determine them.

    Further departures: outputs are projected to 64 dimensions (in one trial, the hard rows had a Jaccard index of 0.956
    with those from unprojected outputs); the early phase is a fixed share of the schedule, where USEFUL looks for the
    epoch in which the training error begins to fall more slowly; and the outputs are the proxy's, where USEFUL uses
    those of the model that it then retrains from scratch.

    output:
        hidden: mean last hidden state, which determines the next-token distributions.
        distribution: mean next-token distribution; works for models without accessible hidden states too. Costs the
            LM head and a matrix product of that size times dimensions / hidden size.
    dimensions: number of features; outputs are projected by a random matrix, seeded by the proxy's seed, that nearly
        preserves distances.
    within: share of the proxy's schedule (`horizon`) that counts as early; the last checkpoint in it is used.

    Cost: one forward pass per example at that checkpoint, and one per checkpoint for the losses.
    """

    output: Literal["hidden", "distribution"] = "hidden"
    dimensions: int = Field(default=64, ge=1)
    within: float = Field(default=0.1, gt=0, le=1)

    def measures(self) -> Sequence[Measure]:
        return [MeanLoss(), self]

    def check_schedule(self, schedule: Schedule) -> None:
        """Raises InputError if no checkpoint is early enough, or the steps are not known yet."""
        schedule.check_known("EarlyOutput")
        self._early_checkpoint(schedule)

    def _early_checkpoint(self, schedule: Schedule) -> int:
        """Position among the checkpoints of the last one within the early share of the schedule."""
        early = np.flatnonzero(schedule.steps <= self.within * schedule.horizon_steps)  # (early checkpoints,)
        if len(early) == 0:
            share = schedule.steps[0] / schedule.horizon_steps
            needed = int(np.ceil(schedule.steps[-1] / (self.within * schedule.horizon_steps)))
            raise InputError(
                f"EarlyOutput needs a checkpoint within {self.within:.0%} of the proxy's schedule but the first is "
                f"at {share:.0%} (step {schedule.steps[0]} of {schedule.horizon_steps}); set proxy.checkpoints to at "
                f"least {needed}, lengthen proxy.horizon, or raise EarlyOutput.within"
            )
        return int(early[-1])

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, dimensions) projected mean outputs at the early checkpoint; NaN, without a forward pass, at the others.

        Raises InputError for `output="hidden"` if the model's LM head is not known.
        """
        schedule, model = checkpoint.proxy_training.schedule, checkpoint.model
        if checkpoint.step != schedule.steps[self._early_checkpoint(schedule)]:
            return np.full((len(examples), self.dimensions), np.nan, np.float32)
        if self.output == "hidden" and models.logit_map(model) is None:
            raise InputError(
                f"{type(model).__name__} gives no hidden states its logits are known to come from; choose "
                "EarlyOutput(output='distribution')"
            )
        seed = derive_seed(checkpoint.seed, "early output", self.output)
        key = f"{self!r} projection"

        def outputs(part: Predictions) -> torch.Tensor:
            """(m, dimensions) of m completion tokens."""
            if self.output == "hidden":
                assert part.hidden is not None
                output: torch.Tensor = part.hidden.float()  # (m, hidden size)
            else:
                output = part.logits().softmax(1)  # (m, vocabulary)
            if key not in checkpoint.memo:
                checkpoint.memo[key] = projection(output.shape[1], self.dimensions, seed, checkpoint.device)
            return output @ checkpoint.memo[key]

        return completion_means(checkpoint, outputs, self.dimensions)

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`."""
        return 1.0

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, dimensions); the trajectory is that of all checkpoints."""
        trace = trace_for(self, examples, run)
        early = self._early_checkpoint(trace.schedule)
        return trace.to_scores(trace.of(self)[:, early], what="output", difficulty=trace.losses[:, early])
