"""Measures that more than one scorer uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.component import Component
from curate.protocols import CostedMeasure, Measure
from curate.types import FloatArray

if TYPE_CHECKING:
    from curate.examples import Examples
    from curate.trace import LiveCheckpoint

__all__ = ["MeanLoss", "passes_of"]


class MeanLoss(Component):
    """Loss of an example: mean cross-entropy over its completion tokens and EOS, nats per token."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) losses in eval mode; NaN for rows without completion text."""
        return checkpoint.losses()[:, None]


def passes_of(measure: Measure, rows: int, checkpoints: int) -> float:
    """Forward passes over a row that a measure costs, see `CostedMeasure`; one per checkpoint where it does not say."""
    return measure.passes(rows, checkpoints) if isinstance(measure, CostedMeasure) else float(checkpoints)
