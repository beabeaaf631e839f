"""Measures that more than one scorer uses."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from curate.component import Component
from curate.data.examples import Examples
from curate.proxy.checkpoints import LiveCheckpoint
from curate.proxy.training import ProxyRun
from curate.types import FloatArray

__all__ = ["CostedMeasure", "DemandingMeasure", "KeyedMeasure", "MeanLoss", "Measure", "passes_of"]


class MeanLoss(Component):
    """Loss of an example: mean cross-entropy over its completion tokens and EOS, nats per token."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) losses in eval mode; NaN for rows without completion text."""
        return checkpoint.losses()[:, None]


def passes_of(measure: Measure, rows: int, checkpoints: int) -> float:
    """Forward passes over a row that a measure costs, see `CostedMeasure`; one per checkpoint where it does not say."""
    return measure.passes(rows, checkpoints) if isinstance(measure, CostedMeasure) else float(checkpoints)


@runtime_checkable
class Measure(Protocol):
    """One number or vector per example at one checkpoint."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, d) float32 for the n examples of one shard; NaN rows where the example cannot be measured.

        The checkpoint is lent: weights must be as before when this returns.
        """
        ...


@runtime_checkable
class KeyedMeasure(Measure, Protocol):
    """A measure that looks at more of the examples than a model reads: their final answers, say. Optional."""

    def key_of(self, examples: Examples) -> str:
        """A string that changes when its values may, ids, content and checkpoint being the same; part of the name of
        its values in the cache. Of the other columns it may look at those of a role only."""
        ...


@runtime_checkable
class CostedMeasure(Measure, Protocol):
    """A measure that costs something else than a forward pass per row and checkpoint. Optional."""

    def passes(self, rows: int, checkpoints: int) -> float:
        """Forward passes over a row, those at all checkpoints together; a backward pass counts two, a generated
        completion one. rows: of the dataset, over which is shared what is done once."""
        ...


@runtime_checkable
class DemandingMeasure(Measure, Protocol):
    """A measure that not every proxy can serve. Optional."""

    def check_proxy(self, proxy_run: ProxyRun) -> None:
        """Raise InputError where this one cannot; called before it is trained."""
        ...
