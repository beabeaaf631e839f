"""Settings of a fine-tuning run, as one frozen component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from curate.component import Component
from curate.finetuning.lora import LoRA
from curate.models.scratch import SCRATCH
from curate.optimizers import Muon
from curate.optimizers.muon import SCRATCH_RATE
from curate.proxy.proxy import MaxLength, length_in_steps
from curate.recipe import construct, encode, optimizer_from, reweighter_from
from curate.tokenization.templates import Supervise, Template
from curate.training.config import (
    DEFAULTS,
    MAX_LENGTH,
    SCRATCH_LEARNING_RATE,
    BatchSize,
    LearningRateSchedule,
    MaxGradNorm,
    MicroBatchTokens,
    PeakLearningRate,
    Precision,
    Sharding,
    TrainConfig,
    WarmupRatio,
    WeightDecay,
    shared_settings,
)

# Settings of memory use and of the run folder; they change no result beyond rounding.
_FREE = ("micro_batch_tokens", "gradient_checkpointing", "save_every", "log_every")
# Names of the model; the model counts by its identity.
_NAMES = ("model", "revision")
Budget = Literal["steps", "epochs"]  # what the arms of a comparison have in common
BUDGETS: tuple[Budget, ...] = get_args(Budget)


class Finetuning(Component):
    """How a model is fine-tuned. Defaults follow "Data Distribution as a Lever" (arXiv 2602.00576) as far as published.

    model: hub id, folder, GGUF file, or "scratch" (a small transformer and tokenizer made from the data itself).
    lora: train low-rank factors and freeze the weights; None = train all weights.
    steps: optimizer steps as an int, or passes over the data as "3 epochs", "1/2 epoch".
    horizon: length of the learning-rate schedule, in the units of `steps`; None = `steps`, and never shorter.
    learning_rate: peak; None = 2e-5 for all weights, 2e-4 for LoRA (whose factors start at zero and need more), 1e-3
        from scratch.
    batch_size, schedule, warmup_ratio, weight_decay, max_grad_norm, optimizer, precision, micro_batch_tokens,
    gradient_checkpointing, sharding: see `curate.training.loop.TrainConfig`.
    max_length: tokens per row, or "auto"; what of a longer row is kept, see `curate.proxy.proxy.Proxy`.
    template: text around prompts, see `curate.proxy.proxy.Proxy`.
    supervise: which turns of the assistant are learned, see `curate.proxy.proxy.Proxy`.
    seed: of the row order, of dropout and of the first LoRA factors.
    save_every: steps between resumable checkpoints; None = by the clock, about every five minutes and never more than
        a twentieth of the time. A checkpoint holds all there is to the run, so when it was made leaves no trace.
    log_every: steps between lines of metrics.jsonl.
    reweighter: how much each row of a batch counts, see `curate.reweighters`; None = equally.
    saved_dtype: of the weights in the run folder. float32, because an update of a fine-tuning run is often smaller
        than the spacing of bfloat16 numbers: rounding would blur the small differences that runs are compared for.
    """

    model: str = Field(description="hub id, folder, GGUF file, or scratch")
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    trust_remote_code: bool = Field(default=False, description="let the model's repository run its own code here")
    lora: LoRA | None = None
    steps: int | str = Field(default="3 epochs", description='optimizer steps such as 500, or "3 epochs" (the default)')
    horizon: int | str | None = None
    batch_size: BatchSize = Field(default=DEFAULTS.batch_size, description="rows per optimizer step")
    learning_rate: PeakLearningRate | None = Field(
        default=None, description="peak (2e-5; with LoRA 2e-4; from scratch 1e-3); not Muon's"
    )
    schedule: LearningRateSchedule = DEFAULTS.schedule
    warmup_ratio: WarmupRatio = DEFAULTS.warmup_ratio
    weight_decay: WeightDecay = DEFAULTS.weight_decay
    max_grad_norm: MaxGradNorm | None = DEFAULTS.max_grad_norm
    optimizer: Any = DEFAULTS.optimizer
    precision: Precision = Field(default=DEFAULTS.precision, description="of the arithmetic")
    micro_batch_tokens: MicroBatchTokens = Field(
        default=DEFAULTS.micro_batch_tokens, description="maximum tokens per forward pass"
    )
    gradient_checkpointing: bool = Field(
        default=DEFAULTS.gradient_checkpointing, description="less memory, about a third slower"
    )
    sharding: Sharding = Field(
        default=DEFAULTS.sharding, description="fsdp: under torchrun, each process keeps a part of the weights"
    )
    max_length: MaxLength = Field(
        default=MAX_LENGTH,
        description="tokens per row; of a longer one the prompt is cut first. auto: as many as 99 % of the rows need "
        f"({MAX_LENGTH})",
    )
    template: Template = Field(
        default="auto",
        description="text around prompts (auto: what the model was fine-tuned with, else alpaca, or chat)",
    )
    supervise: Supervise = Field(default="all", description="assistant turns to train on: all, or only the last one")
    seed: int = Field(default=DEFAULTS.seed, description="seed of row order, dropout and first LoRA factors")
    save_every: int | None = Field(default=None, ge=1, description="steps between resumable checkpoints (5 minutes)")
    log_every: int = Field(default=1, ge=1, description="steps between lines of metrics.jsonl")
    saved_dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="of the weights in RUN")
    reweighter: Any = None

    added: ClassVar[frozenset[str]] = frozenset(["supervise"])

    @field_validator("steps", "horizon")
    @classmethod
    def _readable(cls, value: int | str | None) -> int | str | None:
        if value is not None:
            length_in_steps(value, 1.0)
        return value

    @model_validator(mode="after")
    def _tested(self) -> Finetuning:
        if self.lora is not None and self.sharding != "none":
            raise ValueError("LoRA with sharding is not supported; leave one of them out")
        return self

    @property
    def scratch(self) -> bool:
        return self.model == SCRATCH

    @property
    def peak_learning_rate(self) -> float:
        return self.learning_rate or (
            2e-4 if self.lora else SCRATCH_LEARNING_RATE if self.scratch else DEFAULTS.learning_rate
        )

    @property
    def resolved_optimizer(self) -> Any:
        """The optimizer with defaults resolved: from scratch, a Muon without a learning rate gets the suitable one."""

        def with_rate(optimizer: Any) -> Any:
            if isinstance(optimizer, Muon) and optimizer.learning_rate is None and optimizer.adjust == "original":
                return optimizer.model_copy(update={"learning_rate": SCRATCH_RATE})
            return optimizer

        if not self.scratch:
            return self.optimizer
        base = getattr(self.optimizer, "base", None)
        if isinstance(base, Muon):
            return self.optimizer.model_copy(update={"base": with_rate(base)})
        return with_rate(self.optimizer)

    def total_steps(self, rows: int) -> int:
        """Optimizer steps for `rows` valid rows."""
        return max(1, round(length_in_steps(self.steps, rows / self.batch_size)))

    def train_config(self, rows: int) -> TrainConfig:
        """The settings of the training loop, given the number of valid rows."""
        total = self.total_steps(rows)
        horizon = total if self.horizon is None else round(length_in_steps(self.horizon, rows / self.batch_size))
        own = {"learning_rate": self.peak_learning_rate, "optimizer": self.resolved_optimizer}
        return TrainConfig(steps=total, horizon_steps=max(total, horizon), **{**shared_settings(self), **own})

    def decisive(self) -> dict[str, Any]:
        """The settings that determine the result, except the model, which has several names."""
        fields = type(self).model_fields
        later = {name for name in self.added if getattr(self, name) == fields[name].default}
        own = {name: getattr(self, name) for name in fields if name not in {*_FREE, *_NAMES, *later}}
        return {**own, "optimizer": self.resolved_optimizer}

    def written(self) -> dict[str, Any]:
        """Every setting as a plain value, defaults included, for `finetuning_from`: later defaults must not matter."""
        return {name: _written(getattr(self, name), name) for name in type(self).model_fields}


def _written(value: Any, path: str) -> Any:
    plain = encode(value, path)
    if not isinstance(value, Component):
        return plain
    return {"use": plain["use"], **{n: _written(getattr(value, n), f"{path}.{n}") for n in type(value).model_fields}}


def finetuning_from(settings: Mapping[str, Any], allowed: tuple[str, ...] = ()) -> Finetuning:
    """Finetuning from plain YAML values, such as the `settings` of a run.json.

    An optimizer is its name, or a mapping with `use` (AdamW where it is left out) and its parameters:
    {use: SAM, rho: 0.1, base: {use: Muon}}. A reweighter likewise: {use: DynamicLoss, r: 0.5}.
    allowed: see `curate.recipe.decode`. Raises InputError that names the key.
    """
    fields = dict(settings)
    fields.pop("use", None)
    lora = fields.pop("lora", None)
    if "optimizer" in fields:
        fields["optimizer"] = optimizer_from(fields["optimizer"], "optimizer", allowed)
    if fields.get("reweighter") is not None:
        fields["reweighter"] = reweighter_from(fields["reweighter"], "reweighter", allowed)
    if lora:
        fields["lora"] = construct(LoRA, {k: v for k, v in dict(lora).items() if k != "use"}, "lora")
    settings_read: Finetuning = construct(Finetuning, fields, "settings", allowed)
    return settings_read
