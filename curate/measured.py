"""From what a proxy run measured to Scores: the checks that every measuring scorer owes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curate.errors import InputError
from curate.scores import Scores
from curate.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from curate.examples import Examples
    from curate.trace import Trace

__all__ = ["measured_scores"]


def measured_scores(
    found: Trace,
    examples: Examples,
    losses: FloatArray,
    features: FloatArray,
    *,
    what: str = "feature",
    remedy: str = "lower proxy.learning_rate",
    difficulty: FloatArray | None = None,
    valid: BoolArray | None = None,
) -> Scores:
    """Scores of n traced examples with features (n, f); difficulty (n,) is their mean unless it is given.

    losses: (n, K) nats per token at the K checkpoints, the trajectory. valid: (n,), the rows with completion text
    unless given. Raises InputError, naming row, id, step and remedy, where a loss or a feature (called `what`) of a
    valid row is not finite.
    """
    valid = found.valid if valid is None else valid
    steps = found.schedule.steps
    _check_finite(
        losses, valid, examples, steps, "loss", "lower proxy.learning_rate, or set proxy.precision to float32"
    )
    _check_finite(features, valid, examples, steps, what, remedy)
    kept = np.where(valid[:, None], features, 0).astype(np.float32)
    mean = kept.mean(axis=1) if difficulty is None else difficulty
    return Scores(
        features=kept,
        difficulty=np.where(valid, mean, np.nan).astype(np.float32),
        valid=valid,
        trajectory=losses,
        steps=steps,
        tokens=found.tokens,
        prompt_cut=found.prompt_cut,
        completion_cut=found.completion_cut,
        ids=examples.ids,
    )


def _check_finite(
    values: FloatArray,
    valid: BoolArray,
    examples: Examples,
    steps: IntArray,
    what: str,
    remedy: str,
) -> None:
    bad = valid & ~np.isfinite(values).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        column = int(np.flatnonzero(~np.isfinite(values[row]))[0])
        where = f" at step {steps[column]}" if values.shape[1] == len(steps) else ""
        raise InputError(
            f"the {what} of {int(bad.sum())} valid rows is not finite, first row {row} (id {examples.ids[row].as_py()})"
            f"{where}; {remedy}"
        )
