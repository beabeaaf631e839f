"""Two clusters by difficulty: the hardest share of rows, or all rows above a value."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curate.clusterers.features import Array, Labels, feature_matrix
from curate.clusterers.per_source import cluster_rows
from curate.component import Component


class Quantile(Component):
    """Label 1 for the top share of rows by mean feature (with one feature: by that feature), else 0.

    q: share of rows that get label 1. Ties at the edge stay 0, so that never more than q are taken.
    per: "source" takes the top share of each source.
    """

    q: float = Field(0.2, gt=0, lt=1)
    per: Literal["source"] | None = None
    assigns_by: ClassVar[str] = "edge"

    def fit_predict(self, X: Array, sources: Any = None) -> Labels:
        """Labels (n,) int32: 1 for the top share, else 0."""
        if self.per:
            return cluster_rows(self, X, sources).labels
        value = feature_matrix(X).mean(axis=1, dtype=np.float64)
        take = math.floor(self.q * len(value) + 1e-9)  # 0.7 * 10 is 6.999...
        edge = np.partition(value, len(value) - 1 - take)[len(value) - 1 - take]
        return (value > edge).astype(np.int32)

    def assign(self, X: Array, labels: Labels, new: Array) -> Labels:
        """Labels (m,) of the rows of `new` (m, f): 1 above the largest mean feature of the lower cluster."""
        return _by_edge(X, labels, new, None)


class Threshold(Component):
    """Label 1 where the mean feature (with one feature: that feature) is above `value`, else 0."""

    value: float = Field(allow_inf_nan=False)
    assigns_by: ClassVar[str] = "edge"

    def fit_predict(self, X: Array) -> Labels:
        """Labels (n,) int32: 1 above `value`, else 0."""
        return (feature_matrix(X).mean(axis=1, dtype=np.float64) > self.value).astype(np.int32)

    def assign(self, X: Array, labels: Labels, new: Array) -> Labels:
        """Labels (m,) of the rows of `new` (m, f): 1 above `value`."""
        return _by_edge(X, labels, new, self.value)


def _by_edge(X: Array, labels: Labels, new: Array, edge: float | None) -> Labels:
    """Labels (m,) of `new`: the upper cluster's above `edge`; None = the largest mean feature of the lower cluster."""
    value = X.mean(axis=1, dtype=np.float64)  # (n,)
    numbers = np.unique(labels)
    lower, upper = sorted((numbers[0], numbers[-1]), key=lambda number: float(value[labels == number].mean()))
    if edge is None:
        edge = float(value[labels == lower].max())
    return np.where(new.mean(axis=1, dtype=np.float64) > edge, upper, lower).astype(np.int32)
