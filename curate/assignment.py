"""New rows into clusters that are there already, each clusterer by its own rule.

The labels are taken as they are, whatever made them and however they are numbered: nothing is clustered again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.clusterers import KMeans, PerSource, Quantile, Threshold, source_codes
from curate.errors import InputError
from curate.types import BoolArray

__all__ = ["Assignment", "Rule", "assign"]

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int32]
Rule = Literal["nearest mean", "edge", "nearest row"]


@dataclass(frozen=True)
class Assignment:
    """cluster: (m,) int32, labels among those that were given, -1 = noise.
    rule: what decided.
    unknown_source: (m,) bool, rows of a source that none of the clustered rows has: they took the cluster of the
        nearest row of any source.
    """

    cluster: Labels
    rule: Rule
    unknown_source: BoolArray


def assign(
    clusterer: Any, X: Array, labels: Labels, new: Array, *, sources: Any = None, new_sources: Any = None
) -> Assignment:
    """Clusters of the rows of `new` (m, f), given the rows of X (n, f) that `clusterer` labelled `labels` (n,).

    sources, new_sources: (n,) and (m,) labels where it worked per source; a row then joins a cluster of its own.
    KMeans: the cluster of nearest mean, features scaled as it scaled them. Given its own rows this returns their
        labels, up to those on a border that k-means stopped at before the last of them had settled.
    Quantile: the upper cluster above the largest mean feature of the lower one; Threshold: above its value.
    Any other, HDBSCAN too: that of the nearest row of X, which may be noise. Most scikit-learn clusterers cannot
        place a new row, and those that can are fitted on a copy that is not kept.
    A source that is one cluster, and a side of the edge where no row of X is, leave no choice.

    InputError: a feature of `new` is not finite.
    """
    finite = np.isfinite(new).all(axis=1)
    if not finite.all():
        raise InputError(f"a feature of new row {int(np.argmin(finite))} is not finite; mark the row invalid")
    n, m = len(X), len(new)
    codes = np.zeros(n + m, np.int32)
    if sources is not None:
        codes, _ = source_codes(np.concatenate([sources, new_sources]), n + m)
    inner = clusterer.clusterer if isinstance(clusterer, PerSource) else clusterer
    rule: Rule = "nearest row"
    if isinstance(inner, KMeans):
        rule = "nearest mean"
    elif isinstance(inner, Quantile | Threshold):
        rule = "edge"
    cluster = np.empty(m, np.int32)
    unknown = ~np.isin(codes[n:], codes[:n])
    if unknown.any():
        cluster[unknown] = _nearest_row(X, labels, new[unknown])
    for code in np.unique(codes[n:][~unknown]):
        old, rows = codes[:n] == code, codes[n:] == code
        given = X[old], labels[old], new[rows]
        if rule == "nearest mean":
            cluster[rows] = _nearest_mean(*given, inner.standardize)
        elif rule == "edge":
            cluster[rows] = _by_edge(*given, inner.value if isinstance(inner, Threshold) else None)
        else:
            cluster[rows] = _nearest_row(*given)
    return Assignment(cluster, rule, unknown)


def _nearest_mean(X: Array, labels: Labels, new: Array, standardize: bool) -> Labels:
    X, new = X.astype(np.float64), new.astype(np.float64)
    if standardize:
        deviations = np.where(X.max(axis=0) > X.min(axis=0), X.std(axis=0), np.inf)  # a constant counts for nothing
        X, new = X / deviations, new / deviations
    numbers = np.unique(labels)
    distances = [((new - X[labels == number].mean(axis=0)) ** 2).sum(axis=1) for number in numbers]
    return numbers[np.argmin(distances, axis=0)]


def _by_edge(X: Array, labels: Labels, new: Array, edge: float | None) -> Labels:
    """edge: None = the largest mean feature of the lower cluster."""
    value = X.mean(axis=1, dtype=np.float64)
    numbers = np.unique(labels)
    lower, upper = sorted((numbers[0], numbers[-1]), key=lambda number: float(value[labels == number].mean()))
    if edge is None:
        edge = float(value[labels == lower].max())
    return np.where(new.mean(axis=1, dtype=np.float64) > edge, upper, lower).astype(np.int32)


def _nearest_row(X: Array, labels: Labels, new: Array) -> Labels:
    from scipy.spatial import cKDTree

    return labels[cKDTree(X).query(new, workers=-1)[1]]
