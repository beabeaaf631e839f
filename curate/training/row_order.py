"""The rows of each optimizer step, and their split into micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from curate.seeds import derive_seed
from curate.types import IntArray


class RowOrder:
    """The rows of every optimizer step: a pure function of (rows, batch_size, seed, step).

    Epoch e visits each of `rows` once, in a permutation drawn from (seed, e). Epochs are concatenated and
    cut into batches of exactly `batch_size`: a batch that an epoch cannot fill continues into the next one.
    """

    def __init__(self, rows: IntArray, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        # A batch spans at most two epochs, unless it is longer than one.
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> IntArray:
        return np.random.default_rng(derive_seed(self.seed, "order", epoch)).permutation(self.rows)

    def batch(self, step: int) -> IntArray:
        """(batch_size,) positions for the update that follows `step` updates."""
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        parts: list[IntArray] = []
        while position < end:
            epoch, low = divmod(position, len(self.rows))
            parts.append(self._epoch(epoch)[low : low + end - position])
            position += len(parts[-1])
        return np.concatenate(parts)


def rank_micro_batches(
    lengths: IntArray, split: Callable[[IntArray], list[IntArray]], rank: int, world: int, *, equally_many: bool
) -> list[IntArray]:
    """The micro-batches of one rank for a batch of rows of these lengths, as indices into `lengths`.

    split: makes micro-batches from a rank's lengths. Ranks take turns by length, so that they wait less for others.
    equally_many: add empty ones until all ranks have the same number, for collectives in each.
    """
    order = np.argsort(lengths, kind="stable")  # (b,)
    own = order[rank::world]
    parts = [own[part] for part in split(lengths[own])]
    if equally_many:
        most = max(len(split(lengths[order[first::world]])) for first in range(world))
        parts += [order[:0]] * (most - len(parts))
    return parts


def micro_batches(lengths: IntArray, budget: int, pass_cost: int) -> list[IntArray]:
    """Split b rows into micro-batches of similar length; indices into `lengths`, shortest rows first.

    Each holds at most `budget` tokens, padding included (a longer row goes alone). Of the splits of the
    length-sorted rows, the one with the least padded tokens + pass_cost * passes.
    """
    order = np.argsort(lengths, kind="stable")  # (b,)
    ordered = lengths[order]  # (b,) ascending
    end = len(ordered)
    best = np.zeros(end + 1)  # (b + 1,) lowest cost of the first i rows
    start = np.zeros(end + 1, np.int64)  # (b + 1,) where their last micro-batch begins
    for i in range(1, end + 1):
        padded = np.arange(i, 0, -1) * ordered[i - 1]  # (i,) tokens of a micro-batch from each row to row i - 1
        costs = best[:i] + padded + pass_cost
        costs[:-1][padded[:-1] > budget] = np.inf
        start[i] = np.argmin(costs)
        best[i] = costs[start[i]]
    parts = []
    while end > 0:
        parts.append(order[start[end] : end])
        end = start[end]
    return parts[::-1]
