"""Gradient alignment (LESS): how much a training step on an example would lower the loss on a target set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curate.component import Component, fingerprint
from curate.data.examples import Examples
from curate.data.readers import read_for
from curate.dataset_reference import GivenData
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.example_gradients import GradientParts, example_gradients
from curate.proxy.measures import LiveCheckpoint, MeanLoss
from curate.proxy.proxy import Proxy, Schedule
from curate.run import Run, standalone
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig, learning_rate_factor
from curate.types import FloatArray

if TYPE_CHECKING:
    import torch


class Alignment(Component):
    """Alignment of each example's gradient with the mean gradient of `target`, at one checkpoint.

    target: Examples, whose content is part of this measure's fingerprint. name: what to call them in a message.
    of: whose gradient. similarity: see `GradientAlignment`.
    """

    version: ClassVar[int] = 2
    target: Any = Field(repr=False)
    name: str
    of: GradientParts
    similarity: Literal["cosine", "dot"]

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) alignments; NaN for rows without completion text.

        Raises InputError if the target has no row with completion text or a gradient of zero, and if the model has no
        such parameters.
        """
        key = f"target of {fingerprint(self)}"
        if key not in checkpoint.memo:
            checkpoint.memo[key] = self._target_gradient(checkpoint)
        target, size = checkpoint.memo[key]
        alignments = np.full((len(examples), 1), np.nan, np.float32)  # (n, 1)
        for rows, gradients in example_gradients(checkpoint, checkpoint.tokens, self.of):
            dots = _dots(gradients, target)  # (b,)
            if self.similarity == "cosine":
                # A gradient of zero is aligned with nothing: 0 instead of NaN.
                dots /= (_dots(gradients, gradients).sqrt() * size).clamp_min(1e-30)
            alignments[rows, 0] = dots.cpu().numpy()
        return alignments

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`; assumes that the target's rows are as long as those to be measured."""
        passes = 1 if self.of.parameters == "last-layer" else 3  # a backward pass counts two
        return checkpoints * passes * (1 + len(self.target) / max(rows, 1))

    def _target_gradient(self, checkpoint: LiveCheckpoint) -> tuple[list[torch.Tensor], float]:
        """Mean gradient of the target's rows with completion text, one tensor (1, ...) per weight, and its L2 norm."""
        key = f"tokens of {fingerprint(self)}"
        if key not in checkpoint.run_memo:
            tokenized = checkpoint.proxy_training.tokenize(self.target)
            for row, reason in tokenized.refused.items():
                raise InputError(f"{self.name}: row {row}: {reason}; leave it out of the target, or change it")
            checkpoint.run_memo[key] = tokenized.tokens
        tokens: Tokens = checkpoint.run_memo[key]
        count = int(tokens.valid.sum())
        if count == 0:
            raise InputError(
                f"{self.name}: no completion text of its {len(tokens):,} rows survives proxy.max_length = "
                f"{checkpoint.proxy_training.max_length}; raise it, or give a target of shorter rows"
            )
        total: list[torch.Tensor] = []
        for _, gradients in example_gradients(checkpoint, tokens, self.of):
            sums = [gradient.sum(0, keepdim=True) for gradient in gradients]
            total = [part.add_(more) for part, more in zip(total, sums, strict=True)] if total else sums
        total = [part.div_(count) for part in total]
        size = float(_dots(total, total).sqrt())
        if not np.isfinite(size) or size == 0:
            problem = "zero" if size == 0 else "not finite"
            raise InputError(
                f"{self.name}: its mean gradient is {problem} at step {checkpoint.step}, so nothing can be aligned "
                "with it; give another target, or lower proxy.learning_rate"
            )
        return total, size


def _dots(gradients: Sequence[torch.Tensor], other_gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """(b,) float64 inner products of the gradients of b rows with those of b rows or of one row.

    gradients: one tensor (b, ...) per weight. other_gradients: one tensor (b, ...) or (1, ...) per weight.
    """
    import torch

    products = [(a * b).flatten(1).sum(1).double() for a, b in zip(gradients, other_gradients, strict=True)]
    return torch.stack(products).sum(0)


class GradientAlignment(Component):
    """Alignment of an example's gradient with the mean gradient of a target set (LESS, Xia et al., arXiv 2402.04333).

    To first order a step of size lr along -g_i lowers the target's loss by lr * <g_i, g_target>: positive = helps (as
    in DGA, arXiv 2410.02498, where it raises the weight of a domain). So difficulty has another meaning than for other
    scorers: higher = more useful to the target, not learned later, and `hard: highest` repeats the rows that help the
    target. g_i is the gradient of the example's mean loss per token at a checkpoint; the alignments at the K
    checkpoints are the features, their weighted mean is the difficulty. Gradients are not projected.

    Departures from LESS: it uses Adam's update instead of the gradient for g_i, and an adapter trained for the purpose
    (optimizer states are not kept with checkpoints); it projects gradients to 8192 dimensions, in order to store them;
    it normalizes every target gradient before averaging, where here the mean is that of the gradients, in which large
    ones count more; and it takes the maximum over the target's subtasks, where here the target is one task (for
    several, use one scorer each).

    target: rows of the task to improve, as data that `curate.read` takes or {data: ..., columns: ..., where: ...}
        (`curate.dataset_reference.FurtherData`). Tokenized like the input and truncated at proxy.max_length.
    parameters: whose gradient.
        last-layer: the LM head's weight in its role of making logits (also if it is tied), in closed form:
            sum over t of (p_t - y_t) h_t^T, without a backward pass. Cost: one forward pass per example and checkpoint,
            and a second product of the LM head's size.
        lora: factors B of adapters W + B A on the attention projections at B = 0, A fixed, random and of `rank` rows.
            Cost: a float32 forward and backward pass per example and checkpoint, in batches.
        all: every parameter. Cost: the same, one example at a time, and memory for three more copies of the weights:
            for small models.
        The same is spent on the target, and one forward pass per example and checkpoint on the losses.
    similarity: cosine or dot. A dot product favors short rows, whose gradients are large.
    weights: weights of the checkpoints: learning_rate (its mean over the steps since the previous one, as in LESS) or
        equal.
    """

    target: GivenData
    parameters: Literal["all", "last-layer", "lora"] = "last-layer"
    similarity: Literal["cosine", "dot"] = "cosine"
    rank: int = Field(default=8, ge=1)
    weights: Literal["learning_rate", "equal"] = "learning_rate"
    retired: ClassVar[Mapping[str, str]] = {"dimensions": "gradients are compared whole, not projected"}

    def measures(self) -> Sequence[MeanLoss | Alignment]:
        """The loss, and the alignment with the target, which is read here. Raises InputError if it cannot be read."""
        target = read_for("GradientAlignment.target", "data", self.target.data, **self.target.reading).examples
        alignment = Alignment(
            target=target,
            name=f"GradientAlignment target {self.target.name}",
            of=GradientParts(parameters=self.parameters, rank=self.rank),
            similarity=self.similarity,
        )
        return [MeanLoss(), alignment]

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K)."""
        examples, run = standalone(examples, run)
        loss, alignment = self.measures()
        trace = run.trace(examples, [loss, alignment])
        features = trace.scalars(alignment)  # (n, K)
        weights = np.ones(features.shape[1]) if self.weights == "equal" else _rates(run.proxy, trace.schedule)
        if not weights.any():  # a run of one step has only its first warmup step, of rate 0
            weights = np.ones_like(weights)
        difficulty = (features @ (weights / weights.sum())).astype(np.float32)
        return trace.to_scores(features, what="alignment", difficulty=difficulty)


def _rates(proxy: Proxy, schedule: Schedule) -> Any:
    """(K,) mean learning rate between each checkpoint and the previous one, as a share of the peak."""
    steps = schedule.steps.tolist()
    fields = {"horizon_steps": schedule.horizon_steps, "schedule": schedule.rate}
    config = TrainConfig(steps=steps[-1], warmup_ratio=proxy.warmup_ratio, **fields)
    factors = np.array([learning_rate_factor(config, step) for step in range(steps[-1])])
    return np.array([factors[low:high].mean() for low, high in zip([0, *steps[:-1]], steps, strict=True)])
