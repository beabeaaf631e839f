"""Training settings, the learning-rate schedule, and the record of one optimizer step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from curate.component import Component
from curate.optimizers import AdamW

# Field types that `Proxy` and `Finetuning` share with `TrainConfig`; their defaults are in `DEFAULTS`.
BatchSize = Annotated[int, Field(ge=1)]
PeakLearningRate = Annotated[float, Field(gt=0)]
LearningRateSchedule = Literal["cosine", "linear", "constant"]
WarmupRatio = Annotated[float, Field(ge=0, lt=1)]
WeightDecay = Annotated[float, Field(ge=0)]
MaxGradNorm = Annotated[float, Field(gt=0)]
Precision = Literal["auto", "float32", "bfloat16"]
MicroBatchTokens = Annotated[int | None, Field(ge=1)]
Sharding = Literal["none", "fsdp"]


class TrainConfig(Component):
    """Settings of the training loop.

    steps: optimizer steps after which training stops.
    horizon_steps: steps the learning-rate schedule spans, at least `steps`; None = `steps`. A run that stops
        early inside a long schedule keeps a nearly constant rate.
    batch_size: rows per optimizer step, all ranks together.
    learning_rate: peak. warmup_ratio: share of the horizon over which the rate rises linearly from zero.
    max_grad_norm: a gradient of larger L2 norm is scaled down to it; None = never.
    optimizer: see `curate.optimizers`.
    precision: bfloat16 is autocast over float32 weights; auto uses it where the hardware multiplies it fast.
    micro_batch_tokens: most tokens per forward pass, padding included; None = 4096 on a CPU, 16384 elsewhere. Bounds
        memory and changes no result beyond rounding, unless dropout is active.
    dropout: whether dropout of the model's configuration is active. False: the model is trained in evaluation mode,
        and nothing but rounding depends on the size of micro-batches.
    gradient_checkpointing: recompute activations in the backward pass; less memory, about a third slower.
    sharding: "fsdp" keeps on each rank only its part of weights, gradients and moments (FSDP2; AdamW only). While the
        caller has a checkpoint, and at the end, the weights are unsharded on all ranks, to be saved.
    """

    steps: int = Field(ge=1)
    horizon_steps: int | None = Field(default=None, ge=1)
    batch_size: BatchSize = 32
    learning_rate: PeakLearningRate = 2e-5
    schedule: LearningRateSchedule = "cosine"
    warmup_ratio: WarmupRatio = 0.03
    weight_decay: WeightDecay = 0.0
    max_grad_norm: MaxGradNorm | None = 1.0
    optimizer: Any = Field(default_factory=AdamW)
    precision: Precision = "auto"
    micro_batch_tokens: MicroBatchTokens = None
    dropout: bool = True
    gradient_checkpointing: bool = False
    sharding: Sharding = "none"
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


DEFAULTS: Any = TrainConfig(steps=1)
# Further defaults that `Proxy` and `Finetuning` share: tokens per row, and the peak of a model made from scratch.
MAX_LENGTH = 512
SCRATCH_LEARNING_RATE = 1e-3


def shared_settings(component: Component) -> dict[str, Any]:
    """The fields that `component` shares with `TrainConfig`, as its arguments, except lengths in steps."""
    shared = TrainConfig.model_fields.keys() & type(component).model_fields.keys() - {"steps"}
    return {name: getattr(component, name) for name in shared}


@dataclass(frozen=True)
class StepRecord:
    """Record of one optimizer step.

    step: number of the step, from 1. loss: nats per completion token, unweighted. learning_rate: of the training
    configuration at this step; parameter groups with their own peak follow the same schedule. gradient_norm: L2,
    before clipping. gradients: how many the optimizer used. tokens, seconds: of the run so far, as in `Checkpoint`.
    micro_batch_tokens: most tokens per forward pass. notes: messages for the user.
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

    def metrics(self, epoch: float) -> dict[str, float]:
        """What trackers are told about the step. epoch: passes over the rows so far."""
        return {
            "epoch": round(epoch, 4),
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Learning rate of the update after `step` updates, as a fraction of the peak.

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
