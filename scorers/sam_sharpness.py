"""Sharpness of an example: how much its loss rises when the weights are moved uphill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from curate.component import Component
from curate.errors import InputError
from curate.protocols import Floats
from curate.run import Run, standalone
from curate.scores import Scores
from curate.seeds import derive_seed

if TYPE_CHECKING:
    from curate.examples import Examples
    from curate.proxy import Schedule
    from curate.tokens import Tokens
    from curate.trace import LiveCheckpoint

__all__ = ["LossAtAscent", "SAMSharpness"]


class LossAtAscent(Component):
    """Loss at w and at w + eps, with one eps shared by many examples.

    eps = rho * g / (||g||_2 + 1e-12), g the gradient of the mean loss per token at w; adaptive:
    eps = rho * w^2 g / (|| |w| g ||_2 + 1e-12) (Foret et al., arXiv 2010.01412; Kwon et al., arXiv 2102.11600).

    ascent: "dataset" = g over (a seeded sample of) the whole dataset, one eps per checkpoint; "batch" = g over the
        shard at hand, a fixed block of consecutive rows.
    rows: size of the sample for "dataset".
    """

    rho: float = Field(default=0.05, gt=0)
    adaptive: bool = False
    ascent: Literal["dataset", "batch"] = "dataset"
    rows: int = Field(default=4096, ge=1)

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> Floats:
        """(n, 2) float32: loss at w, loss at w + eps, nats per token.

        Both in float32: eps is spread over all weights, and each share is far below what bfloat16 can resolve.
        """
        flat = checkpoint.losses(precision="float32")
        with _Ascended(checkpoint, self):
            uphill = checkpoint.losses(precision="float32")
        return np.stack([flat, uphill], axis=1)


class _Ascended:
    """The checkpoint's weights at w + eps; at the end they are w again, bit for bit (copies, not subtraction)."""

    def __init__(self, checkpoint: LiveCheckpoint, measure: LossAtAscent) -> None:
        self.parameters = [p for p in checkpoint.model.parameters() if p.requires_grad]
        self.eps = _eps(checkpoint, measure, self.parameters)

    def __enter__(self) -> None:
        import torch

        self.before = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_add_(self.parameters, self.eps)

    def __exit__(self, *_: Any) -> None:
        import torch

        with torch.no_grad():
            for parameter, before in zip(self.parameters, self.before, strict=True):
                parameter.copy_(before)


def _eps(checkpoint: LiveCheckpoint, measure: LossAtAscent, parameters: list[Any]) -> list[Any]:
    from curate.optimizers import ascent

    if measure.ascent == "batch":
        return ascent(parameters, _gradient(checkpoint, checkpoint.tokens, parameters), measure.rho, measure.adaptive)
    key = f"eps {measure!r}"
    if key not in checkpoint.memo:
        tokens = checkpoint.all_tokens
        rows = np.flatnonzero(tokens.valid)
        if len(rows) > measure.rows:
            generator = np.random.default_rng(derive_seed(checkpoint.seed, "ascent", checkpoint.step))
            rows = np.sort(generator.choice(rows, measure.rows, replace=False))
        gradient = _gradient(checkpoint, tokens.take(rows), parameters)
        checkpoint.memo[key] = ascent(parameters, gradient, measure.rho, measure.adaptive)
    eps: list[Any] = checkpoint.memo[key]
    return eps


def _gradient(checkpoint: LiveCheckpoint, tokens: Tokens, parameters: list[Any]) -> list[Any]:
    """Gradient of the mean loss per completion token of `tokens`; leaves the parameters' own .grad alone."""
    import torch

    from curate.forward import batch_losses, make_batch
    from curate.scoring import CPU_TOKENS, plan_batches

    rows = np.flatnonzero(tokens.valid)
    if len(rows) == 0:
        raise InputError("no valid rows to take the ascent gradient from; choose SAMSharpness(ascent='dataset')")
    total = float(tokens.completion_tokens[rows].sum())
    kept = [p.grad for p in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        for part in plan_batches(tokens.lengths[rows], CPU_TOKENS):
            batch = make_batch(tokens, rows[part]).to(checkpoint.device)
            with torch.enable_grad():
                (batch_losses(checkpoint.model, batch).sum() / total).backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    finally:
        for parameter, grad in zip(parameters, kept, strict=True):
            parameter.grad = grad


class SAMSharpness(Component):
    """Loss at w + eps minus loss at w, nats per token, with eps shared by the dataset or by a block of rows.

    The ascent direction is that of sharpness-aware minimisation. Features are the K differences, difficulty their
    mean. rho, adaptive, ascent, rows: see `LossAtAscent`. Cost: two float32 passes per checkpoint and a backward
    pass over the sample.
    """

    rho: float = Field(default=0.05, gt=0)
    adaptive: bool = False
    ascent: Literal["dataset", "batch"] = "dataset"
    rows: int = Field(default=4096, ge=1)

    def measures(self) -> Sequence[LossAtAscent]:
        return [LossAtAscent(rho=self.rho, adaptive=self.adaptive, ascent=self.ascent, rows=self.rows)]

    def check_schedule(self, schedule: Schedule) -> None:
        """Any schedule serves."""

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K); the trajectory is that of the loss at w."""
        examples, run = standalone(examples, run)
        found = run.trace(examples, self.measures())
        pair = found.of(self.measures()[0])
        sharpness = pair[:, :, 1] - pair[:, :, 0]
        features = np.where(found.valid[:, None], sharpness, 0).astype(np.float32)
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise InputError(f"the sharpness of row {row} is not finite; lower SAMSharpness.rho (now {self.rho})")
        return Scores(
            features=features,
            difficulty=np.where(found.valid, features.mean(axis=1), np.nan).astype(np.float32),
            valid=found.valid,
            trajectory=pair[:, :, 0],
            steps=found.schedule.steps,
            tokens=found.tokens,
            ids=examples.ids,
        )
