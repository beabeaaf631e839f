"""Measures: values recorded for every example at every checkpoint of the proxy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from curate import models
from curate.component import Component, call_hook
from curate.data.examples import Examples
from curate.errors import InputError
from curate.proxy.training import ProxyTraining
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray


@dataclass
class LiveCheckpoint:
    """The proxy after `step` optimizer steps, lent to a measure.

    Not to be confused with `curate.training.Checkpoint`, which the training loop yields and which can be resumed.

    model: float32 weights, eval mode, on `device`. A measure that changes them must put them back bit for bit.
    tokens: of the shard being measured. proxy_training: the training it comes from, with tokenizer and schedule.
    expected_tokens: total tokens of all passes over all rows to be measured, including what a cache holds of them.
    memo: shared by the shards of one checkpoint, for results that a measure computes once.
    run_memo: shared by all checkpoints, for results that do not depend on the proxy's weights.
    """

    model: Any
    step: int
    tokens: Tokens
    device: Any
    seed: int
    precision: Literal["auto", "float32", "bfloat16"]
    expected_tokens: int
    memo: dict[str, Any] = field(default_factory=dict, repr=False)
    run_memo: dict[str, Any] = field(default_factory=dict, repr=False)
    proxy_training: ProxyTraining = field(kw_only=True, repr=False)
    _engines: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def all_tokens(self) -> Tokens:
        """Tokens of the whole dataset that the proxy was trained on, even if the shard holds other rows."""
        return self.proxy_training.tokenized.tokens

    def losses(
        self, tokens: Tokens | None = None, *, precision: Literal["auto", "float32", "bfloat16"] | None = None
    ) -> FloatArray:
        """(n,) loss in nats per token of the shard (or of `tokens`) under the model's current weights.

        precision: "float32" for a measure of small changes of the weights, which bfloat16 would round away.
        """
        name = precision or self.precision
        if name not in self._engines:
            # Whether compiling pays depends on the total cost of all passes, not on what a cache already holds.
            self._engines[name] = models.LossEngine(
                self.model, precision=name, expected_tokens=self.expected_tokens, device=self.device
            )
        else:
            self._engines[name].refresh()
        result: FloatArray = self._engines[name].losses(self.tokens if tokens is None else tokens)
        return result


@runtime_checkable
class Measure(Protocol):
    """One number or vector per example at one checkpoint.

    A measure may also have these methods:

    key_of(examples) -> str: for values that depend on more than the tokens, such as final answers. A string that
        changes when the values may, with ids, content and checkpoint unchanged; it becomes part of their name in the
        cache. Among the other columns it may look only at those with a role.
    passes(rows, checkpoints) -> float: forward passes per row at all checkpoints together, for cost estimates; a
        backward pass counts two, a generated completion one. rows: of the dataset, which share what is done once.
        Without it, one pass per checkpoint.
    check_proxy(proxy_training): raises InputError if it cannot be measured on this proxy; called before training.
    facts() -> dict: what run.json says of how it was measured, beside the facts about the proxy.
    """

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, d) float32 for the n examples of one shard; NaN rows where the example cannot be measured.

        The checkpoint is lent: its weights must be unchanged when this returns.
        """
        ...


def measured_values(measure: Measure, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
    """(n, d) float32 of the n examples of a shard. Raises InputError for a measure that returns another shape."""
    values = np.asarray(measure.measure(checkpoint, examples), np.float32)  # (n, d)
    if values.ndim != 2 or len(values) != len(examples):
        raise InputError(
            f"{type(measure).__name__}.measure returned shape {values.shape} for {len(examples)} rows; "
            f"it must return ({len(examples)}, d)"
        )
    return values


def passes_of(measure: Measure, rows: int, checkpoints: int) -> float:
    """Forward passes per row that `measure` costs, see `Measure`."""
    passes = call_hook(measure, "passes", rows, checkpoints)
    return float(checkpoints if passes is None else passes)


class MeanLoss(Component):
    """Loss of an example: mean cross-entropy over its completion tokens and EOS, nats per token."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) losses in eval mode; NaN for rows without completion text."""
        return checkpoint.losses()[:, None]
