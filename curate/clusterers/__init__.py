"""Clusterers: scikit-learn's `fit_predict`, at millions of rows and within each source."""

from curate.clusterers.hdbscan import HDBSCAN
from curate.clusterers.kmeans import KMeans
from curate.clusterers.per_source import Clusterer, Clustering, PerSource, cluster_rows, is_per_source, seeded
from curate.clusterers.thresholds import Quantile, Threshold

__all__ = [
    "HDBSCAN",
    "Clusterer",
    "Clustering",
    "KMeans",
    "PerSource",
    "Quantile",
    "Threshold",
    "cluster_rows",
    "is_per_source",
    "seeded",
]
