"""Stateless reweighters that use only the losses of the optimizer batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from curate.component import Component
from curate.training.reweighting import BatchOutputs, OptimizerBatch, of_rows

if TYPE_CHECKING:
    import torch


_SMALLEST_SPREAD = 1e-6  # nats; smaller spreads count as equal losses


class DynamicLoss(Component):
    """Dynamic loss-based reweighting (arXiv 2502.06733): a softmax over a shape of the batch's losses.

    h_i = (2 l_i - l_max - l_min) / max(l_max - l_min, 1e-6), in [-1, 1] over the whole optimizer batch;
    f_i = min(h_i + 1, 1) for linupper, 1 - h_i^2 for quadratic, |h_i| for extremes;
    w_i = b exp(f_i / r) / sum_j exp(f_j / r), mean 1.

    strategy: linupper takes weight from the lowest losses and caps the highest; quadratic prefers the middle;
        extremes both ends.
    r: the smaller, the further from uniform.
    uniform_steps: optimizer steps at first in which all weights are 1: early losses carry little information.

    One outlier stretches h for all others. The loss averages tokens, and w has mean 1 over the rows: the coefficients
    are those of the authors' code for rows of different lengths (GPT-2), and all 1 while uniform. So where the loss
    goes with the length, updates are larger or smaller than without weights. The authors' later code knows rows of one
    length only, for which both are the same; its `r` falls by a schedule, here it is fixed after `uniform_steps`. Both
    weight the rows that all devices hold at one time, here it is the whole optimizer batch; the strategy that the GPT-2
    code calls "upper" (f = (h + 1) / 2) is left out.
    """

    strategy: Literal["linupper", "quadratic", "extremes"] = "linupper"
    r: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    uniform_steps: int = Field(default=0, ge=0)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) weights of mean 1 over the rows."""
        import torch

        losses = outputs.losses
        if batch.step < self.uniform_steps:
            return torch.ones_like(losses)
        low, high = losses.min(), losses.max()
        h = (2 * losses - high - low) / (high - low).clamp_min(_SMALLEST_SPREAD)
        return _shares(self.shape(h), self.r) * len(losses)

    def shape(self, h: torch.Tensor) -> torch.Tensor:
        """f of losses scaled to [-1, 1], elementwise, in [0, 1]."""
        if self.strategy == "linupper":
            return (h + 1).clamp_max(1)
        return 1 - h.square() if self.strategy == "quadratic" else h.abs()


class IRDRO(Component):
    """Instance-reweighted distributionally robust optimization (arXiv 2402.14270).

    w_i = b exp(l_i / kl_weight) / sum_j exp(l_j / kl_weight), mean 1: the closed form of the worst mixture of the
    batch, less kl_weight times its Kullback-Leibler divergence from the uniform one. The loss averages rows, as in the
    authors' code: the batch loss is mean_i w_i l_i, l_i the mean loss of a row, long or short. Computed over the whole
    optimizer batch of all ranks, where the authors' code sees the four to eight rows of one device; and l_i is over
    completion tokens, where theirs is over a whole text.

    kl_weight: nats; to infinity: uniform; to 0: the hardest example alone.
    """

    version: ClassVar[int] = 2
    averages: ClassVar[Literal["rows"]] = "rows"
    kl_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) w_i mean(n) / n_i, with w of mean 1 and monotone in the loss."""
        return of_rows(_shares(outputs.losses, self.kl_weight) * len(outputs.losses), batch.tokens)


class Selective(Component):
    """Training on the examples of moderately high loss (arXiv 2402.14270, the selective variant).

    With losses sorted downwards and c = floor(fraction * b), but at least 1, the examples of places
    portion * c .. (portion + 1) * c - 1 get weight b / c, all others 0. Equal losses: in the order of the batch. The
    loss averages rows, as in the authors' code: the batch loss is the mean of l_i over the c rows, long or short. Ours:
    places are those in the whole optimizer batch of all ranks, where the authors sort the rows of one device, and c is
    at least 1, where theirs may be 0.

    fraction: of the batch that counts.
    portion: 0 = the highest losses, of rare rows and of wrong ones; 1 = the next ones (ours; their code has 0).
    """

    version: ClassVar[int] = 2
    averages: ClassVar[Literal["rows"]] = "rows"
    fraction: float = Field(default=0.125, gt=0, le=1)
    portion: int = Field(default=1, ge=0)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) w_i mean(n) / n_i, with w of mean 1. A portion beyond the batch uses the last one within it."""
        import torch

        b = len(outputs.losses)
        capacity = max(1, int(self.fraction * b))
        start = min(self.portion, b // capacity - 1) * capacity
        order = outputs.losses.argsort(descending=True, stable=True)
        weights = torch.zeros_like(outputs.losses)
        weights[order[start : start + capacity]] = b / capacity
        return of_rows(weights, batch.tokens)


def _shares(values: torch.Tensor, scale: float) -> torch.Tensor:
    """(b,) softmax of values / scale; shifted before the division, so that a small scale does not overflow."""
    return ((values - values.max()) / scale).softmax(0)


def example_losses(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(b,) mean losses in nats per token, differentiable, and (b,) int64 token counts, for a custom training loop.

    logits: (b, T, v), each position predicting the next. labels: (b, T), -100 where a token does not count. A row
    without counted tokens has loss 0.

    A training loop with weights; for several micro-batches or processes, gather the losses and tokens of the whole
    optimizer batch before the call of `weights`:

        import torch
        import transformers
        from curate.reweighters import BatchOutputs, DynamicLoss, OptimizerBatch, example_losses

        shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=2, **shape))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        reweighter = DynamicLoss(strategy="linupper")

        for step in range(5):
            input_ids = torch.randint(64, (8, 20))  # your batch
            labels = input_ids.clone()
            labels[:, :10] = -100  # prompts are not trained on
            losses, tokens = example_losses(model(input_ids=input_ids).logits, labels)
            batch, outputs = OptimizerBatch(step, tokens), BatchOutputs(losses.detach())
            weights = reweighter.weights(batch, outputs)
            loss = (weights * tokens * losses).sum() / tokens.sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    """
    from torch.nn import functional as F

    targets = labels[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, ignore_index=-100, reduction="none")
    tokens = (targets != -100).sum(1)
    return losses.sum(1) / tokens.clamp_min(1), tokens
