"""Sharpness of an example: how much its loss rises under the ascent step of SAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from curate import models
from curate.component import Component
from curate.data.examples import Examples
from curate.devices.precision import CPU_TOKENS
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.optimizers.sam import ascent, moved
from curate.proxy.measures import LiveCheckpoint
from curate.run import Run, trace_for
from curate.seeds import derive_seed
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray


class SAMSharpness(Component):
    """Loss at w + eps minus loss at w, nats per token: how much it rises under the ascent step of SAM.

    eps = rho * g / (||g||_2 + 1e-12), the ascent of sharpness-aware minimization, g the gradient of the mean loss per
    token at w; adaptive: eps = rho * w^2 g / (|| |w| g ||_2 + 1e-12) (Foret et al., arXiv 2010.01412, eq. 2; Kwon et
    al., arXiv 2102.11600).

    ascent: whose gradient.
        dataset: that of the whole dataset or a seeded sample, one eps per checkpoint: the direction that the optimizer
            descends. Cost: two float32 forward passes per example and checkpoint, and a backward pass over the sample.
        batch: that of the current shard, a fixed block of consecutive rows. Cost: two float32 forward passes and a
            backward pass per example and checkpoint.
        example: the example's own, hence its own worst direction; to first order rho * ||g||. Cost: as batch, but one
            example at a time and with a copy of the weights for each: for small models.
    rows: size of the sample for "dataset".
    Features are the K differences, difficulty their mean.
    """

    rho: float = Field(default=0.05, gt=0)
    adaptive: bool = False
    ascent: Literal["dataset", "batch", "example"] = "dataset"
    rows: int = Field(default=4096, ge=1)

    def measures(self) -> Sequence[SAMSharpness]:
        return [self]

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 2) float32: loss at w, loss at w + eps, nats per token; NaN for rows without completion text.

        Both use float32: eps is spread over all weights, and each component is far below the resolution of bfloat16.
        The weights are restored bit for bit afterwards.
        """
        parameters = [p for p in checkpoint.model.parameters() if p.requires_grad]
        if self.ascent == "example":
            return _one_by_one(checkpoint, self, parameters)
        flat = checkpoint.losses(precision="float32")
        with moved(parameters, _shared_eps(checkpoint, self, parameters)):
            uphill = checkpoint.losses(precision="float32")
        return np.stack([flat, uphill], axis=1)

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`; counts the losses, and the gradient of the rows that the ascent uses."""
        share_read = min(self.rows, rows) / max(rows, 1) if self.ascent == "dataset" else 1.0
        forward = 1 if self.ascent == "example" else 2  # there the loss at w comes with its gradient
        return checkpoints * (forward + 3 * share_read)

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K); the trajectory is that of the loss at w."""
        trace = trace_for(self, examples, run)
        flat, uphill = np.moveaxis(trace.of(self), 2, 0)  # (n, K) each
        remedy = f"lower SAMSharpness.rho (now {self.rho:g})"
        return trace.to_scores(uphill - flat, losses=flat, what="sharpness", remedy=remedy)


def _one_by_one(checkpoint: LiveCheckpoint, scorer: SAMSharpness, parameters: list[Any]) -> FloatArray:
    """(n, 2) loss of each row at w and at w + its own eps; NaN for invalid rows."""
    import torch

    tokens, model = checkpoint.tokens, checkpoint.model
    counts = tokens.completion_tokens
    losses = np.full((len(tokens), 2), np.nan, np.float32)
    for row in np.flatnonzero(tokens.valid):
        batch = models.make_batch(tokens, [row]).to(checkpoint.device)
        with torch.enable_grad():
            flat = models.batch_losses(model, batch)[0] / int(counts[row])
            gradient = torch.autograd.grad(flat, parameters, materialize_grads=True)
        eps = ascent(parameters, gradient, scorer.rho, scorer.adaptive)
        with moved(parameters, eps), torch.no_grad():
            uphill = models.batch_losses(model, batch)[0] / int(counts[row])
        losses[row] = flat.item(), uphill.item()
    return losses


def _shared_eps(checkpoint: LiveCheckpoint, scorer: SAMSharpness, parameters: list[Any]) -> list[Any]:
    """eps of the batch or of the dataset (computed once per checkpoint), one tensor per parameter."""
    if scorer.ascent == "batch":
        return ascent(parameters, _gradient(checkpoint, checkpoint.tokens), scorer.rho, scorer.adaptive)
    key = f"eps {scorer!r}"
    if key not in checkpoint.memo:
        tokens = checkpoint.all_tokens
        rows = np.flatnonzero(tokens.valid)  # (valid rows,)
        if len(rows) > scorer.rows:
            generator = np.random.default_rng(derive_seed(checkpoint.seed, "ascent", checkpoint.step))
            rows = np.sort(generator.choice(rows, scorer.rows, replace=False))
        gradient = _gradient(checkpoint, tokens.take(rows))
        checkpoint.memo[key] = ascent(parameters, gradient, scorer.rho, scorer.adaptive)
    eps: list[Any] = checkpoint.memo[key]
    return eps


def _gradient(checkpoint: LiveCheckpoint, tokens: Tokens) -> list[Any]:
    """Gradient of the mean loss per completion token of `tokens`, one tensor per parameter.

    Every rank computes its own, without communication, since shards differ from rank to rank.
    """
    if not tokens.valid.any():
        raise InputError("no valid rows to take the ascent gradient from; choose SAMSharpness(ascent='dataset')")
    return models.mean_gradient(checkpoint.model, tokens, device=checkpoint.device, budget=CPU_TOKENS, shared=False)
