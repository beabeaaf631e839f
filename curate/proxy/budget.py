"""Held-out loss curves of the proxy up to the budget planned for fine-tuning, and their cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from curate.component import Component
from curate.console.formatting import share
from curate.context import Context
from curate.data.examples import Examples
from curate.difficulty.held_out_curves import HELD_OUT, HeldOutCurves, quarter
from curate.difficulty.scores import Split
from curate.errors import ExternalError, InputError
from curate.gate.compared_text import compared_texts
from curate.gate.gate import Gate
from curate.models.loading import parameter_count
from curate.proxy.held_out import like_rows
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy, Schedule, length_in_steps
from curate.proxy.trace import knows_stop, measure_held_out, measured_held_out
from curate.proxy.training import ProxyTraining
from curate.training.config import DEFAULTS, BatchSize
from curate.types import BoolArray, IntArray

CHECKPOINTS = 9  # from a sixteenth of the budget on, each sqrt 2 times the previous one
MOST_ROWS = 4096  # maximum number of held-out rows that are measured
MOST_UNASKED = 0.05  # share of the target's fine-tuning
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMBT])$", re.IGNORECASE)
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


class ForecastSettings(Component):
    """The planned fine-tuning, for held-out curves along it.

    steps: of the fine-tuning. batch_size: its rows per step; if the proxy's differs, it takes more or fewer steps
    in proportion. model: what is fine-tuned, used only to report the forecast's share of its training: hub id, folder,
    or a size such as 1.5B; None = unknown.
    accept_cost: continue if that share is above 5 % or unknown.
    """

    steps: int | str = Field(description="of the fine-tuning: a number such as 500, or '3 epochs'")
    batch_size: BatchSize = Field(default=DEFAULTS.batch_size, description="rows per step of the fine-tuning")
    model: str | None = Field(
        default=None,
        description="what is fine-tuned, to know the forecast's share: hub id, folder, or a size like 1.5B",
    )
    accept_cost: bool = False

    @field_validator("steps")
    @classmethod
    def _readable(cls, value: int | str) -> int | str:
        length_in_steps(value, 1.0)
        return value

    @field_validator("model")
    @classmethod
    def _of_some_size(cls, value: str | None) -> str | None:
        if value is not None:
            size_in(value)
        return value

    def target_steps(self, rows: int) -> int:
        """Optimizer steps of the fine-tuning on `rows` rows."""
        return max(1, round(length_in_steps(self.steps, rows / self.batch_size)))

    def proxy_steps(self, proxy: Proxy, rows: int) -> int:
        """Steps of the proxy that see as many rows."""
        return max(1, round(self.target_steps(rows) * self.batch_size / proxy.batch_size))


# Fields of a proxy that say how long it trains and which rows it measures; held-out curves have their own.
_OF_LENGTH = frozenset(
    ["steps", "checkpoints", "spacing", "stop_on", "horizon", "min_steps", "score_sample", "score_budget"]
)


class BudgetProxy(Proxy):
    """A proxy that is measured on a geometric grid up to `last_step`, at a nearly constant learning rate."""

    last_step: int = Field(ge=1)
    schedule_steps: int = Field(ge=1)

    @classmethod
    def of(cls, proxy: Proxy, last: int, horizon: int) -> BudgetProxy:
        """Of a proxy's model and its training. All rows are used, for `last` steps however long the proxy trains."""
        fields = {name: getattr(proxy, name) for name in Proxy.model_fields if name not in _OF_LENGTH}
        return cls(**fields, last_step=last, schedule_steps=max(horizon, 3 * last))

    def schedule(self, rows: int) -> Schedule:
        """See `Proxy.schedule`."""
        return Schedule(grid(self.last_step), self.schedule_steps, rows / self.batch_size)


def held_out_quarter(examples: Examples, split: Split, gate: Gate | None) -> BoolArray:
    """(n,) bool: a quarter of the rows of `split`; similar rows stay on one side, see `quarter`."""
    ids = examples.ids.to_pylist()
    texts = compared_texts(examples.table, examples.shape, examples.columns, "all").to_pylist()
    return quarter(ids, like_rows(texts, ids, gate=gate)[0], split.hard)


def grid(last: int) -> IntArray:
    """(K,) steps from a sixteenth of `last` to `last`, each sqrt 2 times the previous one."""
    steps = np.round(last * 2.0 ** (-np.arange(CHECKPOINTS)[::-1] / 2)).astype(np.int64)
    return np.unique(np.maximum(steps, 1))


@dataclass(frozen=True)
class Cost:
    """Cost of held-out curves. steps, parameters: of the proxy; bytes: of its checkpoints in the cache.

    share: of the operations of fine-tuning all weights of the target for its steps; None = unknown target.
    cached: whether the curves are in the cache.
    """

    steps: int
    parameters: int
    tokens: int
    bytes: int
    target: str | None
    target_steps: int
    share: float | None
    cached: bool

    def __str__(self) -> str:
        size = f"{self.parameters / 1e6:.3g}M parameters"
        done = (
            f"a forecast for {self.target_steps:,} steps trains the proxy ({size}) for {self.steps:,} steps on three "
            f"quarters of the rows, about {self.tokens:,} tokens, {self.bytes / 1e6:,.0f} MB of checkpoints"
        )
        if self.cached:
            return f"{done}: all of it is in the cache"
        if self.share is None:
            return f"{done}; its share of the fine-tuning is not known without the name or size of the model"
        return f"{done}: {share(self.share)} of the fine-tuning of {self.target}"

    @property
    def asked_for(self) -> bool:
        """Whether the user must accept the cost first."""
        return not self.cached and (self.share is None or self.share > MOST_UNASKED)


class Budget:
    """Held-out curves of the rows `examples`, to which `split` belongs.

    The proxy's configuration is trained on three quarters of the rows and measures the other quarter. Results are kept
    in the cache, so a killed call resumes and a finished one costs nothing.
    """

    def __init__(
        self,
        examples: Examples,
        split: Split,
        proxy: Proxy,
        settings: ForecastSettings,
        context: Context,
        gate: Gate | None = None,
    ) -> None:
        full_training = ProxyTraining(examples, proxy, context)
        # With "auto" resolved on all rows.
        own = full_training.proxy.model_copy(update={"template": full_training.template})
        valid = split.valid & full_training.tokenized.rows.valid
        held_out = held_out_quarter(examples, split, gate)
        rows = np.flatnonzero(held_out & valid)  # (held-out valid rows,)
        if len(rows) > MOST_ROWS:
            chosen = np.random.default_rng(0).choice(len(rows), MOST_ROWS, replace=False)
            rows = rows[np.sort(chosen)]  # (chosen rows,)
        inside = np.flatnonzero(~held_out)  # (rows trained on,)
        if not valid[inside].any() or not len(rows):
            raise InputError(f"{len(examples):,} rows are too few to hold a quarter of them out; give more rows")
        self.context, self.split, self.rows, self.settings = context, split, rows, settings
        self.inside, self.outside = examples.take(inside), examples.take(rows)
        n = int(full_training.tokenized.rows.valid.sum())
        knows_stop(full_training)  # with steps: auto, where the proxy stopped is in the cache
        schedule = full_training.schedule
        self.length = int(schedule.steps[-1])
        self.proxy = BudgetProxy.of(own, settings.proxy_steps(own, n), schedule.horizon_steps)
        self.training = full_training

    def cost(self) -> Cost:
        """The cost, without training or measuring. Raises an error if the model to fine-tune has no known size."""
        cached = measured_held_out(self.inside, self.outside, self.proxy, [MeanLoss()], self.context)
        return cost_of(self.training, self.settings, len(self.rows), cached=cached)

    def curves(self, clock: float = 1.0) -> HeldOutCurves:
        """Train and measure, or read the curves from the cache. clock: see `HeldOutCurves`."""
        (trace,) = measure_held_out(self.inside, [self.outside], self.proxy, [MeanLoss()], self.context)
        is_measured = np.isfinite(trace.losses).all(axis=1)  # (rows,)
        share_of_hard = float(self.split.hard.sum()) / max(1, int(self.split.valid.sum()))
        hard = self.split.hard[self.rows][is_measured]
        return HeldOutCurves(
            trace.schedule.steps, trace.losses[is_measured], hard, share_of_hard, clock, "proxy", self.length
        )


def cost_of(
    training: ProxyTraining, settings: ForecastSettings, measured: int | None = None, *, cached: bool = False
) -> Cost:
    """The cost of held-out curves for the proxy of `training`. measured: number of rows; None = a quarter."""
    proxy, rows = training.proxy, training.tokenized.rows
    n = int(rows.valid.sum())
    measured = min(n // HELD_OUT, MOST_ROWS) if measured is None else measured
    steps, target_steps = settings.proxy_steps(proxy, n), settings.target_steps(n)
    tokenizer = training.tokenizer if proxy.scratch else None
    parameters = parameter_count(proxy.model, proxy.revision, tokenizer, trust_remote_code=proxy.trust_remote_code)
    per_row, checkpoints = float(rows.lengths.mean()), len(grid(steps))
    trained_tokens, measured_tokens = steps * proxy.batch_size * per_row, measured * checkpoints * per_row
    target = None if settings.model is None else size_of(settings.model, training)
    part = None
    if target is not None:
        # Operations per parameter and token: 6 for a forward and backward pass, 2 for a forward pass.
        part = (
            parameters
            * (6 * trained_tokens + 2 * measured_tokens)
            / (6.0 * target * target_steps * settings.batch_size * per_row)
        )
    tokens, on_disk = round(trained_tokens + measured_tokens), 4 * parameters * checkpoints
    return Cost(steps, parameters, tokens, on_disk, settings.model, target_steps, part, cached)


def size_of(model: str, training: Any) -> int:
    """Number of parameters of a model by its name, or by a size such as 1.5B or 350M. InputError if it is unknown."""
    size = size_in(model)
    if size is not None:
        return size
    tokenizer = training.tokenizer if model == "scratch" else None
    try:
        return parameter_count(model, None, tokenizer, trust_remote_code=training.proxy.trust_remote_code)
    except (InputError, ExternalError) as error:
        raise type(error)(f"the size of the model to fine-tune: {error}; a size such as 1.5B will do") from error


def size_in(model: str) -> int | None:
    """Number of parameters that a size such as 1.5B or 350M states; None for the name of a model."""
    match = _SIZE.match(model.strip())
    if match is None:
        return None
    size = round(float(match[1]) * _UNITS[match[2].upper()])
    if not size:
        raise ValueError(f"{model!r} is a model without parameters; give a size such as 1.5B")
    return size


def check_cost(cost: Cost, accepted: bool, remedy: str) -> None:
    """Raise InputError if the cost needs consent and `accepted` is False; remedy: how to give it."""
    if cost.asked_for and not accepted:
        name_hint = "" if cost.share is not None else "name the model to know its share, or "
        raise InputError(f"{cost}; above {MOST_UNASKED:.0%} it needs your consent: {name_hint}{remedy}")
