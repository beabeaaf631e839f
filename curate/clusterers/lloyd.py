"""Lloyd's k-means over feature-major float32 points, in threads, with sums that do not depend on them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.types import Float64Array, FloatArray

__all__ = ["START_ROWS", "centred_columns", "lloyd"]

Columns = FloatArray
Labels = npt.NDArray[np.int32]
Doubles = Float64Array

# Starts are tried on this many points where there are more: a start only chooses the basin, and the centroids
# of a sample this large are already within a fraction of a percent of the final ones.
START_ROWS = 100_000
# Centroids are at rest when none moves by more than this share of the data's spread: enough to compare starts,
START_TOLERANCE = 1e-2
# and for the final ones, where with two clusters of millions of points hardly one point in 10,000 still changes.
FINAL_TOLERANCE = 1e-4
# Up to this many clusters loops over them, and sums by matrix product, are faster than argmax and bincount.
FEW_CLUSTERS = 8
# Points per chunk with few and with many clusters: (k, points) arrays that stay in cache.
FEW_CHUNK, MANY_CHUNK = 65_536, 2_048


def centred_columns(matrix: npt.NDArray[Any], standardize: bool) -> Columns:
    """The rows of `matrix` (n, f) as (f, n) float32, centred and scaled.

    All features are divided by one common number, or each by its own standard deviation if `standardize`
    (a constant feature becomes 0). Centring keeps small differences on a large offset and the scale keeps
    squares inside float32; neither moves the optimum. Feature-major: every pass then reads along memory.
    """
    exact = matrix.dtype if matrix.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    scales = np.array([float(column.max()) - float(column.min()) for column in matrix.T])
    if standardize:
        deviations = [column.std(dtype=np.float64) for column in matrix.T]
        scales = np.where(scales > 0, deviations, 1)
    else:
        scales[:] = scales.max() or 1
    out = np.empty((matrix.shape[1], matrix.shape[0]), np.float32)
    for row, column, scale in zip(out, matrix.T, scales, strict=True):
        mean = column.mean(dtype=np.float64)
        row[:] = (column.astype(exact, copy=False) - exact.type(mean)) / exact.type(scale or 1)
    return out


def lloyd(columns: Columns, k: int, n_init: int, max_iter: int, rng: np.random.Generator) -> tuple[Labels, bool]:
    """Labels (n,) int32 of the points (f, n) by k-means, and whether the centroids came to rest.

    n_init k-means++ starts run until nearly at rest on the points, or on START_ROWS of them where there are
    more; the one of lowest inertia then goes on over all points until at rest. Fewer than k labels are used
    where the points hold fewer distinct ones.
    """
    n = columns.shape[1]
    sample = columns
    if n > START_ROWS:
        sample = np.ascontiguousarray(columns[:, np.sort(rng.choice(n, START_ROWS, replace=False))])
    with _passes(sample) as one_pass:
        starts = [_descend(_plus_plus(sample, k, rng), START_TOLERANCE, max_iter, one_pass) for _ in range(n_init)]
    best = min(starts, key=lambda start: start[1])
    labels = np.empty(n, np.int32)
    with _passes(columns) as one_pass:
        centroids, _, settled = _descend(best[0], FINAL_TOLERANCE, max_iter, one_pass)
        one_pass(centroids, labels)
    return labels, settled


def _descend(centroids: Doubles, tolerance: float, max_iter: int, one_pass: _Pass) -> tuple[Doubles, float, bool]:
    """From `centroids` (k, f): the centroids at rest, their inertia, and whether they are at rest."""
    inertia = math.inf
    for _ in range(max_iter):
        sums, counts, inertia = one_pass(centroids)
        # A cluster that lost its last point keeps its centroid: it may win points back.
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids)
        shift = math.sqrt(((moved - centroids) ** 2).sum(axis=1).max())
        centroids = moved
        if shift <= tolerance * one_pass.spread:
            return centroids, inertia, True
    return centroids, inertia, False


def _plus_plus(columns: Columns, k: int, rng: np.random.Generator) -> Doubles:
    """k-means++ start (Arthur and Vassilvitskii 2007): at most k of the points, as (k, f).

    Each is drawn with probability proportional to its squared distance from those already drawn; fewer than k
    where no distinct point is left.
    """
    n = columns.shape[1]
    chosen = [columns[:, rng.integers(n)]]
    distance = np.full(n, np.inf)
    while len(chosen) < k:
        distance = np.minimum(distance, ((columns - chosen[-1][:, None]) ** 2).sum(axis=0))
        cumulative = np.cumsum(distance)
        if cumulative[-1] == 0:
            break
        drawn = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        chosen.append(columns[:, min(drawn, n - 1)])
    return np.array(chosen, np.float64)


@dataclass(frozen=True)
class _Pass:
    """One pass over points (f, n) in fixed chunks, summed in their order whichever thread was first.

    square: sum of squared distances from the origin.
    """

    columns: Columns
    square: float
    pool: ThreadPoolExecutor | None

    @property
    def spread(self) -> float:
        """Root mean squared distance from the origin."""
        return math.sqrt(self.square / self.columns.shape[1])

    def __call__(self, centroids: Doubles, labels: Labels | None = None) -> tuple[Doubles, Doubles, float]:
        """Assign every point to the nearest of the (k, f) centroids, writing `labels` (n,) if given.

        Returns the sums (k, f) and counts (k,) of each cluster, and the inertia.
        """
        n, k = self.columns.shape[1], len(centroids)
        size = FEW_CHUNK if k <= FEW_CLUSTERS else MANY_CHUNK
        weights = centroids.astype(np.float32)
        half = (0.5 * (centroids**2).sum(axis=1)).astype(np.float32)[:, None]

        def chunk(low: int) -> tuple[Doubles, Doubles, float]:
            points = self.columns[:, low : low + size]
            affinity = weights @ points - half  # |x - c|^2 = |x|^2 - 2 affinity
            nearest, best = _nearest(affinity)
            if labels is not None:
                labels[low : low + size] = nearest
            sums, counts = _totals(points, nearest, k)
            return sums, counts, float(best.sum(dtype=np.float64))

        lows = range(0, n, size)
        sums, counts, gain = np.zeros(centroids.shape), np.zeros(k), 0.0
        for part in self.pool.map(chunk, lows) if self.pool else map(chunk, lows):
            sums += part[0]
            counts += part[1]
            gain += part[2]
        return sums, counts, self.square - 2 * gain


def _nearest(affinity: Columns) -> tuple[Labels, FloatArray]:
    """Index and value (m,) of the largest entry of each column of `affinity` (k, m), the first of equals."""
    if len(affinity) > FEW_CLUSTERS:
        index = affinity.argmax(axis=0).astype(np.int32)
        return index, np.take_along_axis(affinity, index[None], axis=0)[0]
    index, best = np.zeros(affinity.shape[1], np.int32), affinity[0]
    for cluster in range(1, len(affinity)):
        index[affinity[cluster] > best] = cluster
        best = np.maximum(best, affinity[cluster])
    return index, best


def _totals(points: Columns, nearest: Labels, k: int) -> tuple[Doubles, Doubles]:
    """Sums (k, f) and counts (k,) of the points (f, m) of each cluster."""
    if k > FEW_CLUSTERS:
        sums = [np.bincount(nearest, weights=feature, minlength=k) for feature in points]
        return np.array(sums, np.float64).T, np.bincount(nearest, minlength=k).astype(np.float64)
    members = (nearest == np.arange(k, dtype=np.int32)[:, None]).astype(np.float32)
    return (members @ points.T).astype(np.float64), members.sum(axis=1, dtype=np.float64)


@contextmanager
def _passes(columns: Columns) -> Iterator[_Pass]:
    """A _Pass with one thread per core while it lasts; small inputs get none: starting them costs more."""
    square = sum(float(np.dot(column, column)) for column in columns)
    threads = os.cpu_count() or 1
    if columns.shape[1] <= FEW_CHUNK or threads == 1:
        yield _Pass(columns, square, None)
        return
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # BLAS must not start threads of its own inside ours.
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        yield _Pass(columns, square, pool)
