"""One optimizer batch of a foreign loop, on all ranks: what its examples are, and what they weigh."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from curate.devices import distributed
from curate.errors import DivergenceError
from curate.reweighters.trainer_batches import MicroBatch
from curate.training.reweighting import BatchOutputs, OptimizerBatch, Reweighting

__all__ = ["weigh"]


def weigh(
    reweighting: Reweighting,
    parts: Sequence[MicroBatch],
    found: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
    step: int,
    learning_rate: float,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """(b,) weights of the rows of each of this rank's micro-batches, and () completion tokens of all ranks, 1 if none.

    parts: all micro-batches of this rank. found: summed losses (b,) and embeddings (b, d) of each. step: optimizer
    updates done. Rows without a completion token weigh 0 and are not shown to the reweighter. All ranks must call it.
    Raises DivergenceError where a loss is not finite; learning_rate is named there.
    """
    sums, counts = torch.cat([each for each, _ in found]), torch.cat([part.counts for part in parts])
    known = [part.rows for part in parts if part.rows is not None]
    rows = torch.cat(known) if known else torch.zeros_like(counts)
    widths = [each for _, each in found if each is not None]
    own, (sums, counts, rows) = _gathered([sums, counts, rows])
    counted = counts > 0
    losses, rows = sums[counted] / counts[counted], rows[counted]
    if not bool(losses.isfinite().all()):
        bad = rows[~losses.isfinite()].tolist()
        what = f"the loss of {len(bad)} of {len(losses)} rows"
        raise DivergenceError.at(what, step, bad if known else [], learning_rate)
    embeddings = _placed(torch.cat(widths), own, len(sums))[counted] if widths else None
    weights = torch.zeros(len(sums), device=sums.device)
    if len(losses):
        batch = OptimizerBatch(step, counts[counted], rows if known else None)
        weights[counted] = reweighting.weights(batch, BatchOutputs(losses, embeddings))
    return list(weights[own].split([len(part.counts) for part in parts])), counts.sum().clamp_min(1)


def _gathered(columns: Sequence[torch.Tensor]) -> tuple[slice, list[torch.Tensor]]:
    """Where this rank's values are among those of all ranks, and (b,) each of the columns over all ranks."""
    b, world = len(columns[0]), distributed.world_size()
    if world == 1:
        return slice(0, b), list(columns)
    sizes = torch.zeros(world, dtype=torch.int64, device=columns[0].device)
    sizes[distributed.rank()] = b
    ends = distributed.sum_(sizes).cumsum(0).tolist()
    own = slice(ends[distributed.rank()] - b, ends[distributed.rank()])
    # float64 holds float32 and row numbers exactly, and adding zeros changes nothing.
    table = _placed(torch.stack([column.double() for column in columns], 1), own, ends[-1])
    return own, [table[:, k].to(column.dtype) for k, column in enumerate(columns)]


def _placed(values: torch.Tensor, own: slice, total: int) -> torch.Tensor:
    """(total, ...) values of all ranks, of which (b, ...) are this one's."""
    whole = values.new_zeros(total, *values.shape[1:])
    whole[own] = values
    return distributed.sum_(whole)
