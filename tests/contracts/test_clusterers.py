"""Every clusterer keeps the contract of clusterers."""

from typing import Any

import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.mixture import GaussianMixture

import curate.clusterers
from curate.checks import (
    check_clusterer,
)
from curate.clusterers import KMeans
from tests.fixtures.components import made

# Of a clusterer that is not here, the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "KMeans": [{}, {"n_clusters": 5}],
    "HDBSCAN": [{"min_cluster_size": 20}],
    "PerSource": [{"clusterer": KMeans()}],
    "Threshold": [{"value": 1.0}],
}


@pytest.mark.parametrize(
    "clusterer",
    [*made(curate.clusterers, SETTINGS), MiniBatchKMeans(2, n_init=3), GaussianMixture(2)],
    ids=lambda part: type(part).__name__,
)
def test_clusterers(clusterer: object) -> None:
    check_clusterer(clusterer)
