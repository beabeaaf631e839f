"""Assign new rows to existing clusters by each clusterer's own rule, without clustering again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.clusterers.features import Array, Labels, source_codes
from curate.clusterers.per_source import PerSource
from curate.errors import InputError
from curate.types import BoolArray


@dataclass(frozen=True)
class Assignment:
    """cluster: (m,) int32, existing labels, -1 = noise.
    rule: name of the rule that decided.
    unknown_source: (m,) bool, rows of a source that no clustered row has: they take the cluster of the nearest row of
        any source.
    """

    cluster: Labels
    rule: str
    unknown_source: BoolArray


def assign(
    clusterer: Any, X: Array, labels: Labels, new: Array, *, sources: Any = None, new_sources: Any = None
) -> Assignment:
    """Clusters of the rows of `new` (m, f), given the labels (n,) that `clusterer` gave the rows of X (n, f).

    sources, new_sources: (n,) and (m,) labels if it works per source; a row then joins a cluster of its source.
    KMeans: the cluster of nearest mean, features scaled as it scaled them. Given its own rows this returns their
        labels, up to those on a border that k-means stopped at before the last of them had settled.
    Quantile: the upper cluster above the largest mean feature of the lower one; Threshold: above its value.
    Any other clusterer with a method `assign`: by its own rule.
    The rest, HDBSCAN too: the cluster of the nearest row of X, which may be noise. Most scikit-learn clusterers
        cannot assign a new row, and those that can are fitted on a copy that is not kept.
    A source that is one cluster, and a side of the edge where no row of X is, leave no choice.

    InputError: a feature of `new` is not finite.
    """
    finite = np.isfinite(new).all(axis=1)
    if not finite.all():
        raise InputError(f"a feature of new row {int(np.argmin(finite))} is not finite; mark the row invalid")
    n, m = len(X), len(new)
    codes = np.zeros(n + m, np.int32)  # (n + m,)
    if sources is not None:
        codes, _ = source_codes(np.concatenate([sources, new_sources]), n + m)  # (n + m,)
    inner = clusterer.clusterer if isinstance(clusterer, PerSource) else clusterer
    assign_rows = getattr(inner, "assign", _nearest_row)
    cluster = np.empty(m, np.int32)  # (m,)
    unknown = ~np.isin(codes[n:], codes[:n])  # (m,)
    if unknown.any():
        cluster[unknown] = _nearest_row(X, labels, new[unknown])
    for code in np.unique(codes[n:][~unknown]):
        old, rows = codes[:n] == code, codes[n:] == code
        cluster[rows] = assign_rows(X[old], labels[old], new[rows])
    rule = "nearest row" if assign_rows is _nearest_row else inner.assigns_by
    return Assignment(cluster, rule, unknown)


def _nearest_row(X: Array, labels: Labels, new: Array) -> Labels:
    """(m,) label of the row of X nearest to each row of `new`."""
    from scipy.spatial import cKDTree

    return labels[cKDTree(X).query(new, workers=-1)[1]]
