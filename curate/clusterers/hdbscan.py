"""HDBSCAN: density clustering with noise, on a sample of large datasets."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from curate.clusterers.features import NOISE, Array, Labels, SmallSources, feature_matrix
from curate.clusterers.per_source import cluster_rows
from curate.component import Component
from curate.errors import InputError


class HDBSCAN(Component):
    """Density clustering with noise (Campello et al. 2013), on the `hdbscan` package.

    min_cluster_size: smallest cluster, as a number of rows or (float) a share of them; never under 5 rows.
    min_samples: neighbors that make a row dense; None = the smallest cluster's size.
    max_rows: above this, a seeded sample of max_rows rows is clustered (min_cluster_size shrinks with it) and
        every other row joins its nearest sampled neighbor, noise included: the cost grows faster than rows.
    random_state: of that sample; None takes a seed derived from the run's (0 when called alone).
    per, small_sources: see KMeans.

    Rows of one even density are all noise: there is then nothing to call hard.
    """

    min_cluster_size: int | float = Field(0.01, gt=0)
    min_samples: int | None = Field(None, ge=1)
    max_rows: int = Field(20_000, ge=100)
    random_state: int | None = Field(None, ge=0)
    per: Literal["source"] | None = None
    small_sources: SmallSources = "cluster"

    @field_validator("min_cluster_size")
    @classmethod
    def _size_or_share(cls, value: int | float) -> int | float:
        if isinstance(value, float) and value > 0.5:
            raise ValueError("a share must be at most 0.5; write a number of rows as an integer")
        return value

    def fit_predict(self, X: Array, sources: Any = None) -> Labels:
        """Labels (n,) int32 of the rows of X (n, f), -1 = noise; labels of different sources differ.

        InputError if the `hdbscan` package is missing, a feature is not finite, or per="source" and there
        are no sources.
        """
        if self.per:
            return cluster_rows(self, X, sources).labels
        matrix = feature_matrix(X)
        n = len(matrix)
        rows = np.arange(n)  # (sampled rows,)
        if n > self.max_rows:
            rng = np.random.default_rng(self.random_state or 0)
            rows = np.sort(rng.choice(n, self.max_rows, replace=False))  # (max_rows,)
        size = self.min_cluster_size
        share = size if isinstance(size, float) else size / n
        smallest = max(5, round(share * len(rows)))
        neighbors = smallest if self.min_samples is None else self.min_samples
        try:
            import hdbscan
        except ImportError as error:
            raise InputError("HDBSCAN needs the hdbscan package: pip install 'curate-lm[hdbscan]'") from error
        if len(rows) <= max(smallest, neighbors):
            return np.full(n, NOISE, np.int32)  # too few rows for one dense group
        sample = matrix[rows].astype(np.float64)  # (sampled rows, f)
        model = hdbscan.HDBSCAN(min_cluster_size=smallest, min_samples=neighbors, core_dist_n_jobs=1)
        sampled = np.asarray(model.fit_predict(sample), np.int32)  # (sampled rows,)
        if len(rows) == n:
            return sampled
        from scipy.spatial import cKDTree

        return sampled[cKDTree(sample).query(matrix, workers=-1)[1]]
