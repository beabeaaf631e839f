"""Settings and checkpoint schedule of the proxy model."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from curate.component import Component
from curate.errors import InputError
from curate.models.scratch import SCRATCH
from curate.proxy.sampling import LEAST_ROWS
from curate.proxy.stopping import StopOn, geometric, held_out_rows
from curate.tokenization.templates import Supervise, Template
from curate.training.config import (
    DEFAULTS,
    MAX_LENGTH,
    SCRATCH_LEARNING_RATE,
    BatchSize,
    MaxGradNorm,
    PeakLearningRate,
    Precision,
    TrainConfig,
    WarmupRatio,
    WeightDecay,
    shared_settings,
)
from curate.types import BoolArray, Float64Array, IntArray


def _tokens_or_auto(value: Any) -> Any:
    """Validate `max_length`: a number, or "auto"."""
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"{value!r} is not a valid length; give a number of tokens of at least 2, or auto")
    return value


MaxLength = Annotated[Annotated[int, Field(ge=2)] | Literal["auto"], BeforeValidator(_tokens_or_auto)]

AUTO = "auto"
RATIO = 2**0.5  # ratio of successive checkpoints' steps on a geometric grid

_LONGEST = 10**9  # maximum number of steps or epochs
_EPOCHS = re.compile(r"^\s*(\d+(?:/0*[1-9]\d*|\.\d+)?)\s*epochs?\s*$")


@dataclass(frozen=True)
class Schedule:
    """The steps at which the proxy is measured.

    steps: (K,) int64 optimizer steps after which a checkpoint is taken, increasing.
    horizon_steps: optimizer steps the learning-rate schedule spans.
    steps_per_epoch: optimizer steps per pass over the valid rows (a fraction where rows do not divide).
    rate: schedule of the learning rate after warm-up.
    grid: (G,) all steps of a geometric grid up to the last of `steps`; None if checkpoints are evenly spaced.
    auto: whether training stops when the split has settled; settled: whether that step is known. Until then, `steps`
        are those of a run to the end of the grid.
    """

    steps: IntArray
    horizon_steps: int
    steps_per_epoch: float
    rate: Literal["cosine", "constant"] = "cosine"
    grid: IntArray | None = None
    auto: bool = False
    settled: bool = True

    @property
    def trained_steps(self) -> IntArray:
        """Steps whose weights are stored: the whole grid, so that another run can continue or stop earlier."""
        return self.steps if self.grid is None else self.grid

    def through(self, step: int, checkpoints: int) -> Schedule:
        """The same schedule, stopped at a step of its grid, with the last `checkpoints` points."""
        assert self.grid is not None
        grid = self.grid[self.grid <= step]
        return replace(self, steps=grid[-checkpoints:], grid=grid, settled=True)

    def check_known(self, name: str) -> None:
        """Raise InputError if a scorer of this name, which needs certain steps, cannot know them in advance."""
        if self.auto:
            raise InputError(
                f"{name} needs checkpoints at certain steps, and with proxy.steps = auto they are found while the "
                "proxy trains; set proxy.steps to a number of steps or epochs"
            )

    @property
    def epochs(self) -> Float64Array:
        """(K,) passes over the data at each checkpoint."""
        return self.steps / self.steps_per_epoch


class Proxy(Component):
    """A small model trained briefly on the dataset, and when it is measured.

    Defaults follow "Data Distribution as a Lever" (arXiv 2602.00576) as far as published: a third
    of an epoch inside a learning-rate schedule that spans three. On small data a third of an epoch changes nothing,
    so there is a floor of `min_steps`. Dropout is off in training and scoring, whatever the model's
    configuration says, so neither the size of micro-batches nor running out of memory changes a proxy.

    model: hub id, folder, GGUF file, or "scratch" (a small transformer and tokenizer made from the data itself).
    steps: optimizer steps as an int, or passes over the data as "1/3 epoch", "2 epochs". "auto" = until the split has
        settled (`stop_on`), at a constant rate after warm-up, on the grid of `spacing`, at most to
        `horizon` (by default three epochs and at least three times `min_steps`); reaching that warns.
    checkpoints: K, evenly spaced, the last one at the end.
    spacing: "geometric" takes checkpoints at steps s * 2^(j/2) with the K-th at `min_steps` (None: at half of
        its default), and keeps the rate constant after warm-up; the last K up to `steps` count. A longer run then
        extends a shorter one, and shares checkpoints with "auto" runs, which are always geometric.
    stop_on: where "auto" stops, from the K-th point on: "agreement" = the hard rows of three consecutive points agree
        (Jaccard index 0.8 or more); "agreement and easy loss" = in addition, the loss of the easy rows fell by less
        than 5 % since the previous point, on a tenth of the rows, which are excluded from training. In 21 cells of
        five kinds of task the first lost 0.04 of F1 against the best length (0.12 at worst), the second 0.05 (0.51).
    horizon: length of the learning-rate schedule, in the units of `steps`; raised to the steps if it is shorter,
        and to three times the steps if `min_steps` lengthens the run.
    min_steps: floor of `steps` given in epochs; None = 100 for a pretrained proxy, 300 for scratch. The floor
        also applies to fixed steps only if it is given explicitly.
    learning_rate: peak; None = 2e-5 for a pretrained proxy, 1e-3 for scratch.
    batch_size: rows per optimizer step.
    max_length: tokens per row; a longer row first loses its oldest turns, then the left of the system
        text and of the question, last the end of the completion (`curate.tokenization.truncation`). "auto" = the
        smallest length at which 99 % of the rows fit, within the model's context.
    template: text around prompts; "auto" = the template that the model was fine-tuned with, if recorded, else Alpaca
        for bare prompts ("plain" for scratch), the tokenizer's chat template for messages, nothing around text.
    supervise: which assistant turns are trained on and scored: all, or only the last one. Turns with weight 0
        in the data never are.
    score_sample: number of rows, sampled by source and length, that the proxy is trained on and that every checkpoint
        measures. The others are measured only at the last one; their earlier losses are predicted, see
        `curate.proxy.sampling`. For scorers of losses.
    score_budget: maximum tokens that measuring may read. If they do not suffice for all rows at every checkpoint, they
        determine the sample (unless it is given) and how often the others are measured, at least once.
    precision: of training and scoring; "auto" = bfloat16 autocast over float32 weights if the hardware
        multiplies it fast, else float32.
    """

    model: str = "EleutherAI/pythia-70m"
    revision: str | None = None
    steps: int | str = "1/3 epoch"
    checkpoints: int = Field(default=5, ge=1)
    spacing: Literal["even", "geometric"] = "even"
    stop_on: StopOn = "agreement"
    horizon: int | str = "3 epochs"
    min_steps: int | None = Field(default=None, ge=1)
    learning_rate: PeakLearningRate | None = None
    batch_size: BatchSize = DEFAULTS.batch_size
    warmup_ratio: WarmupRatio = DEFAULTS.warmup_ratio
    weight_decay: WeightDecay = DEFAULTS.weight_decay
    max_grad_norm: MaxGradNorm = DEFAULTS.max_grad_norm
    max_length: MaxLength = MAX_LENGTH
    template: Template = "auto"
    supervise: Supervise = "all"
    precision: Precision = DEFAULTS.precision
    trust_remote_code: bool = False
    score_sample: int | None = Field(
        default=None, ge=LEAST_ROWS, description="measure N rows throughout, the others once, and predict the rest"
    )
    score_budget: int | None = Field(default=None, ge=1, description="maximum tokens that measuring may read")

    added: ClassVar[frozenset[str]] = frozenset(["supervise", "score_sample", "score_budget", "spacing", "stop_on"])

    @field_validator("steps", "horizon")
    @classmethod
    def _readable(cls, value: int | str, info: ValidationInfo) -> int | str:
        if info.field_name != "steps":
            length_in_steps(value, 1.0)
        elif value != AUTO:
            try:
                length_in_steps(value, 1.0)
            except ValueError as error:
                raise ValueError(f"{error}; or auto, until the split has settled") from error
        return value

    @model_validator(mode="after")
    def _all_measured(self) -> Self:
        if self.steps == AUTO and (self.score_sample is not None or self.score_budget is not None):
            raise ValueError(
                "steps: auto measures all rows at every checkpoint to see whether the split has settled; leave out "
                "score_sample and score_budget, or set steps"
            )
        return self

    @property
    def scratch(self) -> bool:
        return self.model == SCRATCH

    @property
    def peak_learning_rate(self) -> float:
        return self.learning_rate or (SCRATCH_LEARNING_RATE if self.scratch else DEFAULTS.learning_rate)

    @property
    def _holds_out(self) -> bool:
        return self.steps == AUTO and self.stop_on != "agreement"

    def held_out(self, ids: Any) -> BoolArray:
        """(n,) bool: rows with these ids (Arrow strings) that are measured but not trained on, see `stop_on`."""
        return held_out_rows(ids.to_pylist()) if self._holds_out else np.zeros(len(ids), np.bool_)

    @property
    def of_any_length(self) -> Proxy:
        """Settings that determine the weights after any number of steps: all except how far a run on the grid goes."""
        if self.steps != AUTO and self.spacing == "even":
            return self
        stop_on = self.stop_on if self._holds_out else "agreement"
        return self.model_copy(update={"steps": AUTO, "spacing": "geometric", "stop_on": stop_on})

    @property
    def least_steps(self) -> int:
        """Floor of `steps` given in epochs."""
        return self.min_steps or (300 if self.scratch else 100)

    def schedule(self, rows: int) -> Schedule:
        """Checkpoints for a dataset of `rows` valid rows; for "auto", those of a run to the end, see `Schedule`."""
        per_epoch = min(rows, self.score_sample or rows) / self.batch_size
        if self.steps == AUTO or self.spacing == "geometric":
            return self._on_grid(per_epoch)
        total = round(length_in_steps(self.steps, per_epoch))
        floor = self.min_steps
        if floor is None and isinstance(self.steps, str):
            floor = self.least_steps
        horizon = round(length_in_steps(self.horizon, per_epoch))
        horizon = max(horizon, total)
        if floor is not None and total < floor:
            total = floor
            horizon = max(horizon, 3 * total)  # otherwise the learning rate would reach zero at the last checkpoint
        if total < self.checkpoints:
            raise InputError(
                f"proxy.checkpoints = {self.checkpoints} but the proxy trains for {total} steps; "
                f"set proxy.checkpoints to at most {max(total, 1)} or raise proxy.steps"
            )
        steps = np.round(total * np.arange(1, self.checkpoints + 1) / self.checkpoints).astype(np.int64)
        return Schedule(steps, horizon, per_epoch)

    def _on_grid(self, per_epoch: float) -> Schedule:
        floor = self.least_steps
        horizon = max(round(length_in_steps(self.horizon, per_epoch)), 3 * floor)
        auto, last = self.steps == AUTO, horizon
        if not auto:
            last = round(length_in_steps(self.steps, per_epoch))
            last = max(last, floor) if isinstance(self.steps, str) or self.min_steps else last
        if last > horizon:
            raise InputError(
                f"proxy.steps = {self.steps} is {last:,} steps and the constant rate is kept for {horizon:,}; raise "
                "proxy.horizon or lower proxy.steps"
            )
        grid = geometric((self.min_steps or floor / 2) / RATIO ** (self.checkpoints - 1), last, RATIO)
        if len(grid) < self.checkpoints:
            raise InputError(
                f"proxy.checkpoints = {self.checkpoints} but up to step {last:,} there are {len(grid)} on the "
                "geometric grid; lower proxy.checkpoints or raise proxy.steps"
            )
        steps = grid[-self.checkpoints :]
        return Schedule(steps, horizon, per_epoch, "constant", grid, auto, settled=not auto)

    def train_config(self, schedule: Schedule, steps: int, seed: int) -> TrainConfig:
        """Settings of the training loop, up to `steps` of the schedule."""
        settings = {**shared_settings(self), "learning_rate": self.peak_learning_rate, "seed": seed}
        fixed = {"horizon_steps": schedule.horizon_steps, "schedule": schedule.rate, "dropout": False}
        return TrainConfig(steps=steps, **fixed, **settings)


def length_in_steps(value: Any, per_epoch: float) -> float:
    """The optimizer steps given as an int or as "a/b epoch", given those of one epoch; ValueError if it is neither."""
    if isinstance(value, int):
        if value < 1:
            raise ValueError(f"{value} steps; give at least 1")
        length = Fraction(value)
    else:
        match = _EPOCHS.match(value)
        if not match or Fraction(match[1]) <= 0:
            raise ValueError(f"{value!r} is not a valid length; write a number of steps such as 500, or '1/3 epoch'")
        length = Fraction(match[1])
    if length > _LONGEST:
        raise ValueError(f"more than {_LONGEST:,} steps or epochs is too long; write a number of steps such as 500")
    return float(length) * (1.0 if isinstance(value, int) else per_epoch)
