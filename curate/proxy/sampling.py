"""Scoring on a budget: train the proxy on a sample of the rows, and measure only the sample at every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.seeds import derive_seed
from curate.types import BoolArray, Float64Array, FloatArray, IntArray

LEAST_ROWS = 100  # in a sample
_BUDGET_ROWS, _BUDGET_SHARE = 2_000, 0.01  # minimum size of a sample chosen by a budget


@dataclass(frozen=True)
class Sample:
    """rows: (s,) ascending positions of the rows that the proxy is trained on. tokens: number that measuring reads.

    The other rows are measured at some checkpoints. Their losses at the others are predicted from these and the number
    of their tokens, by a regression on the sample.

    measured: (c,) ascending indices of the checkpoints at which all rows are measured; the sample is at all K.
    """

    rows: IntArray
    measured: IntArray
    tokens: int

    def others(self, checkpoints: int) -> IntArray:
        """Ascending indices of the checkpoints at which only the sample is measured."""
        return np.setdiff1d(np.arange(checkpoints), self.measured)


def choose_sample(
    rows: int | None, budget: int | None, checkpoints: int, valid: BoolArray, lengths: IntArray, sources: Any, seed: int
) -> Sample | None:
    """A sample of n rows, given validity and token counts (n,); None if all rows are measured at every checkpoint.

    rows: requested number. budget: maximum tokens that measuring may read. With rows only, the others are measured
    once, at the last checkpoint. With a budget, they are measured at as many as leave enough of it for the sample.
    sources: (n,) labels, or None. Raises InputError if the budget is too small.
    """
    usable = np.flatnonzero(valid)  # (valid rows,)
    n, total = len(usable), int(lengths[usable].sum())
    if (rows is None and budget is None) or (rows is not None and rows >= n):
        return None
    if budget is not None and budget >= checkpoints * total:
        return None
    least = rows if rows is not None else min(max(n // 4, 1), max(_BUDGET_ROWS, round(_BUDGET_SHARE * n)))
    chosen = stratified(usable, least, lengths, sources, seed)
    sampled = int(lengths[chosen].sum())
    passes = 1
    if budget is not None:
        needed = [passes * total + (checkpoints - passes) * sampled for passes in range(1, checkpoints)]
        if not needed or needed[0] > budget:
            raise InputError(
                f"proxy.score_budget = {budget:,} tokens, but one pass over all rows and {checkpoints - 1} more over a "
                f"sample of {least:,} need {needed[0] if needed else total:,}; raise --score-budget to that, or take "
                "fewer rows with --limit"
            )
        passes = sum(needed_tokens <= budget for needed_tokens in needed)
        more = int(n * (budget / total - passes) / (checkpoints - passes))
        while rows is None and more > least:
            chosen = stratified(usable, more, lengths, sources, seed)
            sampled = int(lengths[chosen].sum())
            if passes * total + (checkpoints - passes) * sampled <= budget:
                break
            more = int(0.998 * more)  # sampled rows may be longer than the mean
    measured = np.unique(np.linspace(checkpoints - 1, 0, passes).round().astype(np.int64))
    return Sample(chosen, measured, passes * total + (checkpoints - passes) * sampled)


def stratified(usable: IntArray, rows: int, lengths: IntArray, sources: Any, seed: int) -> IntArray:
    """(rows,) ascending sample of the positions `usable` (m,), stratified by source and length.

    Every m/rows-th row, ordered by source and length, from a random start.
    """
    generator = np.random.default_rng(derive_seed(seed, "score sample"))
    ties = generator.permutation(len(usable))
    keys: list[Any] = [ties, lengths[usable]]
    if sources is not None:
        keys.append(np.unique(["" if source is None else source for source in sources[usable]], return_inverse=True)[1])
    order = np.lexsort(keys)
    places = np.floor((np.arange(rows) + generator.random()) * len(usable) / rows).astype(np.int64)
    return np.sort(usable[order[places]])


@dataclass(frozen=True)
class Prediction:
    """losses: (n, p) float32 predicted losses in nats.

    error: (p,) root mean squared error in nats, explained: (p,) share of the variance, both on rows of the sample held
    out of the regression.
    """

    losses: FloatArray
    error: Float64Array
    explained: Float64Array


def predict(known: FloatArray, tokens: npt.NDArray[Any], rows: IntArray, queries: FloatArray) -> Prediction:
    """The losses of n rows at p checkpoints at which only the sample was measured.

    known: (n, c) losses at the other checkpoints, NaN for rows that are not valid. tokens: (n,) completion tokens.
    rows: (s,) positions of the sample. queries: (s, p) its losses at the p checkpoints.
    """
    fitted = np.isfinite(queries).all(axis=1) & np.isfinite(known[rows]).all(axis=1)
    design = _design(known[rows[fitted]], tokens[rows[fitted]])
    target = queries[fitted].astype(np.float64)  # (fitted rows, p)
    halves = np.arange(len(target)) % 2 == 0
    unseen = np.empty_like(target)
    for part in (halves, ~halves):
        unseen[~part] = design[~part] @ np.linalg.lstsq(design[part], target[part])[0]
    squares = ((unseen - target) ** 2).mean(axis=0)
    weights = np.linalg.lstsq(design, target)[0]  # (b, p)
    losses = np.empty((len(known), target.shape[1]), np.float32)  # (n, p)
    for low in range(0, len(known), 1 << 18):  # bounds the memory
        part = slice(low, low + (1 << 18))
        losses[part] = np.maximum(_design(known[part], tokens[part]) @ weights, 0)
    return Prediction(losses, np.sqrt(squares), 1 - squares / np.maximum(target.var(axis=0), 1e-12))


def _design(known: FloatArray, tokens: npt.NDArray[Any]) -> Float64Array:
    """(n, b) regressors for the losses."""
    losses = known.astype(np.float64)
    length = np.log1p(tokens.astype(np.float64))[:, None]
    return np.concatenate([np.ones_like(length), losses, losses**2, length, length**2, losses * length], axis=1)
