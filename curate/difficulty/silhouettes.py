"""Mean silhouette of clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_POINTS_AT_ONCE = 512  # whose distances to all others are held


def mean_silhouette(points: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Mean silhouette (Rousseeuw 1987) of points (m, f) by Euclidean distance; labels: (m,) of two clusters or more.

    Equal to scikit-learn's, whose import takes longer than this.
    """
    points = np.asarray(points, np.float64)
    points = points - points.mean(axis=0)  # distances are then more exact
    _, cluster, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    members = np.eye(len(sizes))[cluster]  # (m, clusters)
    squares = np.einsum("mf,mf->m", points, points)
    total = 0.0
    for low in range(0, len(points), _POINTS_AT_ONCE):
        rows = slice(low, low + _POINTS_AT_ONCE)
        squared = squares[rows, None] - 2 * points[rows] @ points.T + squares  # (b, m)
        distances = np.sqrt(np.maximum(squared, 0))
        distances[np.arange(len(distances)), np.arange(low, low + len(distances))] = 0
        sums = distances @ members  # (b, clusters)
        own = np.arange(len(distances)), cluster[rows]
        others = sizes[cluster[rows]] - 1
        inside = sums[own] / np.maximum(others, 1)
        means = sums / sizes
        means[own] = np.inf
        nearest = means.min(axis=1)
        largest = np.maximum(inside, nearest)
        alone = (others == 0) | (largest == 0)  # whose silhouette is 0
        total += float(np.where(alone, 0, (nearest - inside) / np.where(alone, 1, largest)).sum())
    return total / len(points)
