"""k-means in its exact form, fast on millions of rows."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curate.clusterers.features import Array, Labels, SmallSources, feature_matrix, too_few
from curate.clusterers.lloyd import centred_columns, lloyd
from curate.clusterers.per_source import cluster_rows
from curate.component import Component
from curate.errors import DataWarning

__all__ = ["KMeans"]


class KMeans(Component):
    """k-means with Euclidean distance (Lloyd), the centroids fitted on every row.

    The reference code of arXiv 2602.00576 and 2403.07384 (faiss) starts once, stops after 20 iterations and fits the
    centroids on 256 rows per cluster at most.

    n_clusters: k. Fewer come back where the rows hold fewer distinct points.
    n_init: k-means++ starts; the one of lowest inertia goes on until its centroids are at rest. Above 100,000
        rows the starts are compared on a seeded sample of that size, and the winner goes on over ALL rows.
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
        columns = centred_columns(matrix, self.standardize)
        rng = np.random.default_rng(self.random_state or 0)
        labels, settled = lloyd(columns, self.n_clusters, self.n_init, self.max_iter, rng)
        if not settled:
            message = f"KMeans was still moving after max_iter={self.max_iter} iterations; raise max_iter"
            warnings.warn(message, DataWarning, stacklevel=2)
        return labels

    def assign(self, X: Array, labels: Labels, new: Array) -> Labels:
        """Labels (m,) of the rows of `new` (m, f): the cluster of nearest mean, features scaled as X's are."""
        X, new = X.astype(np.float64), new.astype(np.float64)
        if self.standardize:
            deviations = np.where(X.max(axis=0) > X.min(axis=0), X.std(axis=0), np.inf)  # a constant counts for nothing
            X, new = X / deviations, new / deviations
        numbers = np.unique(labels)
        # k arrays (m,) of squared distances
        distances = [((new - X[labels == number].mean(axis=0)) ** 2).sum(axis=1) for number in numbers]
        return numbers[np.argmin(distances, axis=0)]
