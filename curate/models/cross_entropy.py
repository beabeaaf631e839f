"""Compute token losses from hidden states without storing the logits of a whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

CPU_BLOCK = 1 << 21  # logits in memory; 8 MB of float32. Time is flat below and grows slowly above
GPU_BLOCK = 1 << 27
SMALLEST_BLOCK = 512  # vocabulary entries; narrower blocks waste the matmul


@dataclass(frozen=True)
class LogitMap:
    """A model's map of the product of hidden states and head: cap * tanh(scale * z / cap), or scale * z."""

    scale: float = 1.0
    softcap: float | None = None

    def apply_(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply the map in place to float32 logits of any shape."""
        if self.softcap is not None:
            return logits.mul_(self.scale / self.softcap).tanh_().mul_(self.softcap)
        return logits if self.scale == 1.0 else logits.mul_(self.scale)

    def backward_(self, gradient: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Turn `gradient` with respect to the mapped `logits` in place into that of the plain product."""
        if self.softcap is not None:
            gradient.mul_(1 - (logits / self.softcap).square_())
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


@dataclass(frozen=True)
class HeadPoint:
    """The inputs of the logits: hidden (m, d), head weight (v, d), and bias (v,) if the head has one."""

    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None


def token_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    logit_map: LogitMap,
    anchor: HeadPoint | None = None,
) -> torch.Tensor:
    """(m,) float32 negative log-likelihood in nats of targets (m,) under hidden (m, d) and head weight (v, d).

    The vocabulary is processed in blocks with a running log-sum-exp, so that the logits in memory stay small enough
    for the cache of a CPU. The backward pass processes the same blocks again, recomputing each one's logits: the
    log-sum-exp is known by then, so blocks are independent and the head's gradient is written once.

    Matrix products run in the autocast dtype if autocast is on, else in that of the weight; everything after
    them is float32. Differentiable in hidden, weight and bias, for any upstream gradient.

    anchor: evaluate the losses and their derivatives in the logits there instead; hidden, weight and bias then
        only determine how the logits change with the parameters (the functional gradient, see `FunctionalSAM`).
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        loss: torch.Tensor = _TokenLosses.apply(hidden, weight, bias, targets, logit_map, dtype, anchor)
        return loss


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        logit_map: LogitMap,
        dtype: torch.dtype,
        anchor: HeadPoint | None,
    ) -> torch.Tensor:
        m = len(hidden)
        point = anchor or HeadPoint(hidden, weight, bias)
        low = point.hidden.to(dtype)  # (m, d)
        peak = torch.full((m,), -torch.inf, device=hidden.device)  # (m,) running maximum over the blocks
        total = torch.zeros(m, device=hidden.device)  # (m,) sum of exp(logit - peak)
        picked = torch.zeros(m, device=hidden.device)  # (m,) logits of the targets
        for start, stop in _blocks(m, weight):
            logits = _block_logits(low, point.weight, point.bias, start, stop, logit_map)  # (m, stop - start)
            inside = (targets >= start) & (targets < stop)  # (m,) whether the target is in this block
            value = logits.gather(1, (targets - start).clamp(0, stop - start - 1)[:, None])[:, 0]  # (m,)
            picked = torch.where(inside, value, picked)
            higher = torch.maximum(peak, logits.amax(dim=1))  # (m,) maximum so far
            total = total * (peak - higher).exp() + logits.sub_(higher[:, None]).exp_().sum(dim=1)
            peak = higher
        normalizer = peak + total.log()  # (m,)
        ctx.save_for_backward(hidden, weight, bias, targets, normalizer)
        ctx.logit_map, ctx.dtype, ctx.anchor = logit_map, dtype, anchor
        return normalizer - picked

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias, targets, normalizer = ctx.saved_tensors
        upstream = gradients[0][:, None].float()
        want_hidden, want_weight, want_bias = ctx.needs_input_grad[:3]
        point = ctx.anchor or HeadPoint(hidden, weight, bias)
        low, at_low = hidden.to(ctx.dtype), point.hidden.to(ctx.dtype)
        d_hidden = torch.zeros(hidden.shape, device=hidden.device) if want_hidden else None  # (m, d)
        d_weight = torch.empty_like(weight) if want_weight else None  # (v, d)
        d_bias = torch.empty_like(bias) if want_bias else None  # (v,)
        for start, stop in _blocks(len(hidden), weight):
            logits = _block_logits(at_low, point.weight, point.bias, start, stop, ctx.logit_map)
            d_logits = (logits - normalizer[:, None]).exp_()  # (m, stop - start)
            inside = ((targets >= start) & (targets < stop)).nonzero()[:, 0]
            d_logits[inside, targets[inside] - start] -= 1
            if ctx.anchor is not None and ctx.logit_map.softcap is not None:
                # The cap is part of how logits change, so its slope is taken here, not at the anchor.
                logits = _block_logits(low, weight, bias, start, stop, ctx.logit_map)
            d_logits = ctx.logit_map.backward_(d_logits.mul_(upstream), logits)
            if d_bias is not None:
                d_bias[start:stop] = d_logits.sum(dim=0)
            d_low = d_logits.to(ctx.dtype)
            if d_hidden is not None:
                d_hidden += d_low @ weight[start:stop].to(ctx.dtype)
            if d_weight is not None:
                d_weight[start:stop] = d_low.t() @ low
        return (None if d_hidden is None else d_hidden.to(hidden.dtype)), d_weight, d_bias, None, None, None, None


def _blocks(m: int, weight: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Vocabulary ranges; they depend only on shapes, so that a batch always gets the same arithmetic."""
    budget = CPU_BLOCK if weight.device.type == "cpu" else GPU_BLOCK
    width = max(SMALLEST_BLOCK, budget // max(m, 1) // 64 * 64)
    vocabulary = weight.shape[0]
    for start in range(0, vocabulary, width):
        yield start, min(start + width, vocabulary)


def _block_logits(
    low: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    start: int,
    stop: int,
    logit_map: LogitMap,
) -> torch.Tensor:
    """(m, stop - start) float32 logits of a slice of the vocabulary."""
    logits = (low @ weight[start:stop].to(low.dtype).t()).float()
    if bias is not None:
        logits += bias[start:stop].float()
    return logit_map.apply_(logits)
