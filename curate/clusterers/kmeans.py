"""k-means (Lloyd) on every row, in threads, with sums independent of the number of threads."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curate.clusterers.features import Array, Labels, SmallSources, feature_matrix, too_few
from curate.clusterers.per_source import cluster_rows
from curate.component import Component
from curate.errors import DataWarning
from curate.types import Float64Array, FloatArray

# Starts are compared on at most this many points: a start only selects the basin, and the centroids of a sample this
# large are already within a fraction of a percent of the final ones.
START_ROWS = 100_000
# Centroids are settled when none moves by more than this share of the data's spread: enough to compare starts,
START_TOLERANCE = 1e-2
# and for the final ones, at which with two clusters of millions of points hardly one point in 10,000 still changes.
FINAL_TOLERANCE = 1e-4
# Up to this many clusters loops over them, and sums by matrix product, are faster than argmax and bincount.
FEW_CLUSTERS = 8
# Points per chunk with few and with many clusters: arrays of points and clusters that stay in cache.
FEW_CHUNK, MANY_CHUNK = 65_536, 8_192


class KMeans(Component):
    """k-means with Euclidean distance (Lloyd), the centroids fitted on every row.

    The reference code of arXiv 2602.00576 and 2403.07384 (faiss) starts once, stops after 20 iterations and fits the
    centroids on 256 rows per cluster at most.

    n_clusters: k. Fewer come back where the rows hold fewer distinct points.
    n_init: k-means++ starts; the one of lowest inertia continues until its centroids are at rest. Above 100,000
        rows the starts are compared on a seeded sample of that size, and the best continues over ALL rows.
    max_iter: Lloyd iterations per start, and again over all rows; a DataWarning if it is not enough.
    random_state: None takes a seed derived from the run's (0 when called alone).
    standardize: divide each feature by its standard deviation (a constant one counts for nothing).
    per: "source" clusters within each source, the same as `PerSource(clusterer=KMeans(...))`.
    small_sources: see PerSource; used with per="source" only.

    The result is the same for any number of threads. Memory: one float32 copy of the features.
    """

    n_clusters: int = Field(2, ge=1)
    n_init: int = Field(5, ge=5)
    max_iter: int = Field(300, ge=1)
    random_state: int | None = Field(None, ge=0)
    standardize: bool = False
    per: Literal["source"] | None = None
    small_sources: SmallSources = "cluster"
    assigns_by: ClassVar[str] = "nearest mean"

    def fit_predict(self, X: Array, sources: Any = None) -> Labels:
        """Labels (n,) int32 in 0..k-1 of the rows of X (n, f); labels of different sources differ.

        InputError if n < n_clusters (within one source: that source is one cluster), a feature is not
        finite, or per="source" and there are no sources.
        """
        if self.per:
            return cluster_rows(self, X, sources).labels
        matrix = feature_matrix(X)
        n = len(matrix)
        if n < self.n_clusters:
            raise too_few(n, self.n_clusters, "n_clusters")
        columns = _centered_columns(matrix, self.standardize)
        rng = np.random.default_rng(self.random_state or 0)
        labels, settled = _lloyd(columns, self.n_clusters, self.n_init, self.max_iter, rng)
        if not settled:
            message = f"KMeans was still moving after max_iter={self.max_iter} iterations; raise max_iter"
            warnings.warn(message, DataWarning, stacklevel=2)
        return labels

    def assign(self, X: Array, labels: Labels, new: Array) -> Labels:
        """Labels (m,) of the rows of `new` (m, f): the cluster with the nearest mean, features scaled like X."""
        X, new = X.astype(np.float64), new.astype(np.float64)
        if self.standardize:
            deviations = np.where(X.max(axis=0) > X.min(axis=0), X.std(axis=0), np.inf)  # (f,)
            X, new = X / deviations, new / deviations
        numbers = np.unique(labels)
        # k arrays (m,) of squared distances
        distances = [((new - X[labels == number].mean(axis=0)) ** 2).sum(axis=1) for number in numbers]
        return numbers[np.argmin(distances, axis=0)]


def _centered_columns(matrix: Array, standardize: bool) -> FloatArray:
    """The rows of `matrix` (n, f) as (f, n) float32, centered and scaled.

    All features are divided by one common number, or each by its own standard deviation if `standardize`
    (a constant feature becomes 0). Centering keeps small differences on a large offset and the scale keeps
    squares inside float32; neither moves the optimum. Feature-major: every pass then reads along memory.
    """
    exact = matrix.dtype if matrix.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    scales = np.array([float(column.max()) - float(column.min()) for column in matrix.T])  # (f,)
    if standardize:
        deviations = [column.std(dtype=np.float64) for column in matrix.T]
        scales = np.where(scales > 0, deviations, 1)  # (f,)
    else:
        scales[:] = scales.max() or 1
    out = np.empty((matrix.shape[1], matrix.shape[0]), np.float32)  # (f, n)
    for row, column, scale in zip(out, matrix.T, scales, strict=True):
        mean = column.mean(dtype=np.float64)
        row[:] = (column.astype(exact, copy=False) - exact.type(mean)) / exact.type(scale or 1)
    return out


def _lloyd(columns: FloatArray, k: int, n_init: int, max_iter: int, rng: np.random.Generator) -> tuple[Labels, bool]:
    """Labels (n,) int32 of the points (f, n) by k-means, and whether the centroids settled.

    n_init k-means++ starts run until nearly at rest on the points, or on START_ROWS of them where there are
    more; the one of lowest inertia then continues over all points until at rest. Fewer than k labels are used
    where the points hold fewer distinct ones.
    """
    n = columns.shape[1]
    sample = columns
    if n > START_ROWS:
        sample = np.ascontiguousarray(columns[:, np.sort(rng.choice(n, START_ROWS, replace=False))])
    with _passes(sample) as one_pass:
        starts = [_descend(_plus_plus(sample, k, rng), START_TOLERANCE, max_iter, one_pass) for _ in range(n_init)]
    best = min(starts, key=lambda start: start[1])
    labels = np.empty(n, np.int32)  # (n,)
    with _passes(columns) as one_pass:
        centroids, _, settled = _descend(best[0], FINAL_TOLERANCE, max_iter, one_pass)
        one_pass(centroids, labels)
    return labels, settled


def _descend(
    centroids: Float64Array, tolerance: float, max_iter: int, one_pass: _Pass
) -> tuple[Float64Array, float, bool]:
    """Lloyd iterations from `centroids` (k, f): the final centroids, their inertia, and whether they settled."""
    inertia = math.inf
    for _ in range(max_iter):
        sums, counts, inertia = one_pass(centroids)
        # A cluster that lost its last point keeps its centroid: it may regain points.
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids)
        shift = math.sqrt(((moved - centroids) ** 2).sum(axis=1).max())
        centroids = moved
        if shift <= tolerance * one_pass.spread:
            return centroids, inertia, True
    return centroids, inertia, False


def _plus_plus(columns: FloatArray, k: int, rng: np.random.Generator) -> Float64Array:
    """k-means++ start (Arthur and Vassilvitskii 2007): at most k of the points, as (k, f).

    Each is drawn with probability proportional to its squared distance to those already drawn; fewer than k
    if no distinct point is left.
    """
    n = columns.shape[1]
    chosen = [columns[:, rng.integers(n)]]
    distance = np.full(n, np.inf)  # (n,) squared, to the nearest point drawn
    while len(chosen) < k:
        distance = np.minimum(distance, ((columns - chosen[-1][:, None]) ** 2).sum(axis=0))
        cumulative = np.cumsum(distance)
        if cumulative[-1] == 0:
            break
        index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        chosen.append(columns[:, min(index, n - 1)])
    return np.array(chosen, np.float64)


@dataclass(frozen=True)
class _Pass:
    """One pass over points (f, n) in fixed chunks, whose sums are added in order regardless of thread timing.

    `chunk` runs in the threads of `pool` (in the calling thread if None); each call writes its own slice of `labels`.

    square: sum of squared distances from the origin.
    """

    columns: FloatArray
    square: float
    pool: ThreadPoolExecutor | None

    @property
    def spread(self) -> float:
        """Root mean squared distance from the origin."""
        return math.sqrt(self.square / self.columns.shape[1])

    def __call__(
        self, centroids: Float64Array, labels: Labels | None = None
    ) -> tuple[Float64Array, Float64Array, float]:
        """Assign every point to the nearest of the (k, f) centroids, writing `labels` (n,) if given.

        Returns the sums (k, f) and counts (k,) of each cluster, and the inertia.
        """
        n, k = self.columns.shape[1], len(centroids)
        size = FEW_CHUNK if k <= FEW_CLUSTERS else MANY_CHUNK
        weights = centroids.astype(np.float32)  # (k, f)
        half = (0.5 * (centroids**2).sum(axis=1)).astype(np.float32)[:, None]  # (k, 1)

        def chunk(low: int) -> tuple[Float64Array, Float64Array, float]:
            """Runs in a thread of the pool, which writes only its own slice of `labels`."""
            points = self.columns[:, low : low + size]
            nearest, best = _nearest(points, weights, half)  # (m,) each
            if labels is not None:
                labels[low : low + size] = nearest
            sums, counts = _totals(points, nearest, k)
            return sums, counts, float(best.sum(dtype=np.float64))

        lows = range(0, n, size)
        sums, counts, gain = np.zeros(centroids.shape), np.zeros(k), 0.0  # (k, f), (k,)
        for part in self.pool.map(chunk, lows) if self.pool else map(chunk, lows):
            sums += part[0]
            counts += part[1]
            gain += part[2]
        return sums, counts, self.square - 2 * gain


def _nearest(points: FloatArray, weights: FloatArray, half: FloatArray) -> tuple[Labels, FloatArray]:
    """The nearest centroid of each of the points (f, m), the first of equals, and its affinity; (m,) each.

    weights: (k, f) centroids. half: (k, 1) half of their squares. Affinity a: |x - c|^2 = |x|^2 - 2 a.
    """
    if len(weights) > FEW_CLUSTERS:
        affinity = points.T @ weights.T  # (m, k): a row per point, along which argmax and the product are fast
        affinity -= half.T
        index = affinity.argmax(axis=1)  # (m,)
        return index.astype(np.int32), np.take_along_axis(affinity, index[:, None], axis=1)[:, 0]
    affinity = weights @ points - half  # (k, m)
    index, best = np.zeros(affinity.shape[1], np.int32), affinity[0]  # (m,) each
    for cluster in range(1, len(affinity)):
        index[affinity[cluster] > best] = cluster
        best = np.maximum(best, affinity[cluster])
    return index, best


def _totals(points: FloatArray, nearest: Labels, k: int) -> tuple[Float64Array, Float64Array]:
    """Sums (k, f) and counts (k,) of the points (f, m) of each cluster."""
    if k > FEW_CLUSTERS:
        sums = [np.bincount(nearest, weights=feature, minlength=k) for feature in points]
        return np.array(sums, np.float64).T, np.bincount(nearest, minlength=k).astype(np.float64)
    # (k, m)
    members = (nearest == np.arange(k, dtype=np.int32)[:, None]).astype(np.float32)
    return (members @ points.T).astype(np.float64), members.sum(axis=1, dtype=np.float64)


@contextmanager
def _passes(columns: FloatArray) -> Iterator[_Pass]:
    """A _Pass with one thread per core while it lasts; small inputs get no threads, which would cost more."""
    square = sum(float(np.dot(column, column)) for column in columns)
    threads = os.cpu_count() or 1
    if columns.shape[1] <= FEW_CHUNK or threads == 1:
        yield _Pass(columns, square, None)
        return
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # BLAS must not start its own threads inside these.
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        yield _Pass(columns, square, pool)
