"""Fixed weights from a column of the dataset, such as those that an online method learned in an earlier run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from curate.component import Component
from curate.errors import InputError
from curate.training.reweighting import BatchOutputs, OptimizerBatch, Reweighter, Training, of_rows

if TYPE_CHECKING:
    import torch


class GivenWeights(Component):
    """Weights from a column of the training data, divided by their mean so that the size of updates is unchanged.

    The mean is over all rows that are trained on.

    until: share of the optimizer steps in which the weights hold; afterwards every row counts 1. 0.5 is for a dataset
        made with `order: front` and `copies: weights`. None = all steps.
    column: numbers, none negative and not all 0.
    averages: "tokens": the mean is over completion tokens, and a row of weight 2 counts as two copies would in an epoch
        that is as much longer. "rows": the batch loss is the mean of w_i l_i over its rows, for weights learned by a
        method that averages rows (IRDRO, Selective).
    beside: another reweighter, whose weights are multiplied by these.
    """

    added: ClassVar[frozenset[str]] = frozenset(["until", "beside"])

    column: str = "weight"
    averages: Literal["tokens", "rows"] = "tokens"
    until: float | None = Field(default=None, gt=0, le=1)
    beside: Any = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        base = self.beside
        if base is not None and not (callable(getattr(base, "begin", None)) or isinstance(base, Reweighter)):
            raise ValueError("beside is a reweighter, which has a method weights(batch, outputs)")
        if base is not None and self.averages == "rows":
            raise ValueError("averages: rows is of these weights alone; leave it out, or beside")
        return self

    def begin(self, training: Training) -> _Given | _Beside:
        """Raises InputError if the column is missing or invalid, or if `until` needs a known number of steps."""
        import torch

        name = type(self).__qualname__
        if self.until is not None and training.steps is None:
            raise InputError(f"{name}.until is a share of the steps, and this loop does not say how many; leave it out")
        raw = training.rows.column(self.column, name)
        try:
            values = np.asarray([np.nan if value is None else value for value in raw], np.float64)  # (n,)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: column {self.column!r} holds values that are not numbers ({error})") from error
        valid = training.tokens.valid
        bad = valid & ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"{name}: the weight of row {row} in column {self.column!r} is {raw[row]!r}; give every row a number "
                "that is at least 0"
            )
        counts = training.tokens.completion_tokens[valid].astype(np.float64)
        mean = float(np.average(values[valid], weights=counts if self.averages == "tokens" else None))
        if mean == 0:
            raise InputError(f"{name}: all weights in column {self.column!r} are 0, so nothing would be learned")
        by_row = torch.from_numpy((values / mean).astype(np.float32))
        weights = _Given(by_row, self.averages, self.until, training.steps)
        if self.beside is None:
            return weights
        begin = getattr(self.beside, "begin", None)
        return _Beside(weights, self.beside if begin is None else begin(training))


@dataclass(frozen=True)
class _Given:
    by_row: torch.Tensor
    averages: Literal["tokens", "rows"]
    until: float | None = None
    steps: Callable[[], int] | None = None

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        weights = self.by_row[batch.known_rows("GivenWeights")].to(outputs.losses)
        if self.until is not None and self.steps is not None and batch.step >= self.until * self.steps():
            weights = weights.new_ones(len(weights))
        return of_rows(weights, batch.tokens) if self.averages == "rows" else weights


_HOOKS = ("averages", "embeds", "refresh", "state", "load_state")


class _Beside:
    """The state of another reweighter, with its own hooks; its weights are multiplied by the given ones."""

    def __init__(self, weights: _Given, reweighter: Any) -> None:
        self.given, self.other = weights, reweighter
        for name in _HOOKS:
            if (hook := getattr(reweighter, name, None)) is not None:
                setattr(self, name, hook)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        weights: torch.Tensor = self.other.weights(batch, outputs)
        return weights * self.given.weights(batch, outputs).to(weights)
