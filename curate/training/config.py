"""How a model is trained, and what one optimizer step was like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from curate.component import Component
from curate.optimizers import AdamW

__all__ = ["StepRecord", "TrainConfig", "learning_rate_factor"]


class TrainConfig(Component):
    """How a model is trained.

    steps: optimizer steps after which training stops.
    horizon_steps: steps the learning-rate schedule spans, at least `steps`; None = `steps`. A run that stops
        early inside a long schedule keeps a nearly constant rate.
    batch_size: rows per optimizer step, all ranks together.
    learning_rate: peak. warmup_ratio: share of the horizon over which the rate rises linearly from zero.
    max_grad_norm: a gradient of larger L2 norm is scaled down to it; None = never.
    optimizer: see `curate.optimizers`.
    precision: bfloat16 is autocast over float32 weights; auto takes it where the hardware multiplies it fast.
    micro_batch_tokens: most tokens, padding included, that go through the model at once; None = 4096 on a CPU,
        16384 elsewhere. Bounds memory and changes no result beyond rounding, unless the model drops out at random.
    dropout: whether what the model's configuration drops at random in training is dropped. False: it is trained in
        evaluation mode, so nothing is, and nothing but rounding depends on the size of micro-batches.
    gradient_checkpointing: recompute activations in the backward pass; less memory, about a third slower.
    sharding: "fsdp" keeps on each rank only its part of weights, gradients and moments (FSDP2; AdamW only). While a
        checkpoint is lent, and at the end, the weights are whole on all ranks, to be saved.
    """

    steps: int = Field(ge=1)
    horizon_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    optimizer: Any = Field(default_factory=AdamW)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    dropout: bool = True
    gradient_checkpointing: bool = False
    sharding: Literal["none", "fsdp"] = "none"
    seed: int = 0

    @model_validator(mode="after")
    def _horizon_spans_steps(self) -> TrainConfig:
        if self.horizon_steps is not None and self.horizon_steps < self.steps:
            raise ValueError(f"horizon_steps={self.horizon_steps} ends before steps={self.steps}; raise it")
        return self

    @model_validator(mode="after")
    def _checkpointing_in_training_mode(self) -> TrainConfig:
        if self.gradient_checkpointing and not self.dropout:
            raise ValueError("dropout=False trains in evaluation mode, where models take no gradient checkpoints")
        return self


@dataclass(frozen=True)
class StepRecord:
    """What one optimizer step was like.

    step: number of the step, from 1. loss: nats per completion token, unweighted. learning_rate: of the training
    configuration at this step; parameter groups with a peak of their own follow the same schedule. gradient_norm: L2,
    before clipping. gradients: how many the optimizer took. tokens, seconds: of the run so far, as in `Checkpoint`.
    micro_batch_tokens: most tokens that went through the model at once. notes: lines that the user should see.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    gradients: int
    tokens: int
    seconds: float
    micro_batch_tokens: int
    notes: tuple[str, ...] = ()


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Learning rate of the update that follows `step` updates, as a fraction of the peak.

    The convention of transformers' schedules: zero at step 0, the peak after ceil(warmup_ratio * horizon)
    steps, then half a cosine, or a line, down to zero at the horizon.
    """
    horizon = config.horizon_steps or config.steps
    warmup = math.ceil(config.warmup_ratio * horizon)
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, horizon - warmup)
    if config.schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return max(0.0, 1.0 - progress) if config.schedule == "linear" else 1.0
