"""Clusterers: scikit-learn's `fit_predict`, at millions of rows and within each source.

`cluster_rows` runs any clusterer, one of these or a third party's, over all rows or source by source. Which
clusters count as hard is not decided here but by the split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy.typing as npt

if TYPE_CHECKING:
    pass
import copy
import math
import warnings
from dataclasses import dataclass

import numpy as np
from pydantic import Field, field_validator

from curate.component import Component
from curate.errors import DataWarning, InputError
from curate.lloyd import centred_columns, lloyd
from curate.seeds import derive_seed
from curate.types import BoolArray

__all__ = [
    "HDBSCAN",
    "Clusterer",
    "Clustering",
    "KMeans",
    "PerSource",
    "Quantile",
    "Threshold",
    "check_rows",
    "cluster_rows",
    "collapsed_sources",
    "is_per_source",
    "seeded",
    "source_codes",
]

Labels = npt.NDArray[np.int32]
Array = npt.NDArray[Any]
SmallSources = Literal["cluster", "all_hard"]

NOISE = -1
# The reference schedule leaves a source with fewer rows than this per cluster unclustered.
ROWS_PER_CLUSTER = 39
_NO_SOURCES = "the clusterer works per source but the rows have none: name a column (source=...) or drop `per`"


def source_codes(sources: Any, n: int) -> tuple[Labels, list[str | None]]:
    """Codes (n,) int32 into the sorted distinct source labels; rows without a source share a last one, None.

    `sources` is an Arrow array, a NumPy array or a sequence of n labels.
    """
    import pyarrow as pa

    array = sources if isinstance(sources, pa.Array | pa.ChunkedArray) else pa.array(sources)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if len(array) != n:
        raise InputError(f"sources has {len(array)} labels for {n} rows; give one per row")
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    encoded = array.cast(pa.string()).dictionary_encode(null_encoding="encode")
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=lambda code: (names[code] is None, names[code] or ""))
    rank = np.empty(len(names), np.int32)
    rank[order] = np.arange(len(names), dtype=np.int32)
    return rank[encoded.indices.to_numpy(zero_copy_only=False)], [names[code] for code in order]


def _matrix(X: Any) -> Array:
    """X as a finite (n, f) array, or an InputError that names the row at fault."""
    array = np.asarray(X)
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"features have shape {array.shape}; a clusterer needs (n, f) with n, f > 0")
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise InputError(f"features have dtype {array.dtype}; a clusterer needs numbers")
    for column in range(array.shape[1]):
        finite = np.isfinite(array[:, column])
        if not finite.all():
            row = int(np.argmin(finite))
            raise InputError(f"feature {column} of row {row} is {array[row, column]}; mark the row invalid")
    return array


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

    def fit_predict(self, X: Array, sources: Any = None) -> Labels:
        """Labels (n,) int32 in 0..k-1 of the rows of X (n, f); labels of different sources differ.

        InputError if n < n_clusters (within one source: that source is one cluster), a feature is not
        finite, or per="source" and there are no sources.
        """
        if self.per:
            return cluster_rows(self, X, sources).labels
        matrix = _matrix(X)
        n = len(matrix)
        if n < self.n_clusters:
            raise _too_few(n, self.n_clusters, "n_clusters")
        columns = centred_columns(matrix, self.standardize)
        rng = np.random.default_rng(self.random_state or 0)
        labels, settled = lloyd(columns, self.n_clusters, self.n_init, self.max_iter, rng)
        if not settled:
            message = f"KMeans was still moving after max_iter={self.max_iter} iterations; raise max_iter"
            warnings.warn(message, DataWarning, stacklevel=2)
        return labels


class HDBSCAN(Component):
    """Density clustering with noise (Campello et al. 2013), on the `hdbscan` package.

    min_cluster_size: smallest cluster, as a number of rows or (float) a share of them; never under 5 rows.
    min_samples: neighbours that make a row dense; None = the smallest cluster's size.
    max_rows: above this, a seeded sample of max_rows rows is clustered (min_cluster_size shrinks with it) and
        every other row joins its nearest sampled neighbour, noise included: the cost grows faster than rows.
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
        matrix = _matrix(X)
        n = len(matrix)
        rows = np.arange(n)
        if n > self.max_rows:
            rng = np.random.default_rng(self.random_state or 0)
            rows = np.sort(rng.choice(n, self.max_rows, replace=False))
        size = self.min_cluster_size
        share = size if isinstance(size, float) else size / n
        smallest = max(5, round(share * len(rows)))
        neighbours = smallest if self.min_samples is None else self.min_samples
        try:
            import hdbscan
        except ImportError as error:
            raise InputError("HDBSCAN needs the hdbscan package: pip install 'curate-lm[hdbscan]'") from error
        if len(rows) <= max(smallest, neighbours):
            return np.full(n, NOISE, np.int32)  # too few rows for one dense group
        sample = matrix[rows].astype(np.float64)
        model = hdbscan.HDBSCAN(min_cluster_size=smallest, min_samples=neighbours, core_dist_n_jobs=1)
        sampled = np.asarray(model.fit_predict(sample), np.int32)
        if len(rows) == n:
            return sampled
        from scipy.spatial import cKDTree

        return sampled[cKDTree(sample).query(matrix, workers=-1)[1]]


class Quantile(Component):
    """The top share of rows by mean feature (with one feature: by that feature), without any model.

    q: share of rows that get label 1. Ties at the edge stay 0, so that never more than q are taken.
    per: "source" takes the top share of each source.
    """

    q: float = Field(0.2, gt=0, lt=1)
    per: Literal["source"] | None = None

    def fit_predict(self, X: Array, sources: Any = None) -> Labels:
        """Labels (n,) int32: 1 for the top share, else 0."""
        if self.per:
            return cluster_rows(self, X, sources).labels
        value = _matrix(X).mean(axis=1, dtype=np.float64)
        take = math.floor(self.q * len(value) + 1e-9)  # 0.7 * 10 is 6.999...
        edge = np.partition(value, len(value) - 1 - take)[len(value) - 1 - take]
        return (value > edge).astype(np.int32)


class Threshold(Component):
    """Label 1 where the mean feature (with one feature: that feature) is above `value`, else 0."""

    value: float = Field(allow_inf_nan=False)

    def fit_predict(self, X: Array) -> Labels:
        """Labels (n,) int32: 1 above `value`, else 0."""
        return (_matrix(X).mean(axis=1, dtype=np.float64) > self.value).astype(np.int32)


class PerSource(Component):
    """Runs a clusterer within each source, so that "hard" means hard for its source.

    clusterer: any object with `fit_predict(X)`: one of ours, or a scikit-learn clusterer or mixture.
    small_sources: "all_hard" leaves a source unclustered, and entirely hard, if it has fewer rows than the
        average source or fewer than 39 per cluster (its n_clusters or n_components, else 2). It repeats
        what the reference schedule does and marks most sources of an uneven dataset.
    """

    clusterer: Any
    small_sources: SmallSources = "cluster"

    @field_validator("clusterer")
    @classmethod
    def _clusters(cls, value: Any) -> Any:
        if not isinstance(value, Clusterer):
            raise ValueError(f"{type(value).__qualname__} has no method fit_predict(X)")
        if is_per_source(value):
            raise ValueError("the clusterer inside already works per source; give it without `per`")
        return value

    def fit_predict(self, X: Array, sources: Any = None) -> Labels:
        """Labels (n,) int32 of the rows of X (n, f), -1 = noise; labels of different sources differ."""
        return cluster_rows(self, X, sources).labels


@dataclass(frozen=True)
class Clustering:
    """labels: (n,) int32, -1 = noise; a label belongs to one group only.
    groups: (n,) int32, what was clustered together: the source's code, or 0 everywhere.
    all_hard: (g,) bool, groups left unclustered because every row of theirs counts as hard.
    collapsed: (g,) bool, groups that are one cluster because they have fewer rows than the clusterer needs.
    """

    labels: Labels
    groups: Labels
    all_hard: BoolArray
    collapsed: BoolArray


def is_per_source(clusterer: Any) -> bool:
    """Whether `clusterer` works within each source."""
    return isinstance(clusterer, PerSource) or (
        isinstance(clusterer, KMeans | HDBSCAN | Quantile) and clusterer.per == "source"
    )


def cluster_rows(clusterer: Any, X: Array, sources: Any = None) -> Clustering:
    """Run `clusterer` over the rows of X (n, f): all together, or within each source if it says so.

    A source with fewer rows than the clusterer needs, or whose rows are all equal, is one cluster.
    InputError: a feature is not finite, too few rows in all, no sources where they are needed, or the
    clusterer refuses the data or returns anything but n integers.
    """
    matrix = _matrix(X)
    n = len(matrix)
    if not is_per_source(clusterer):
        labels = _clustered(clusterer, matrix, "the data")
        return Clustering(labels, np.zeros(n, np.int32), np.zeros(1, bool), np.zeros(1, bool))
    if sources is None:
        raise InputError(_NO_SOURCES)
    inner = _inner(clusterer)
    codes, names = source_codes(sources, n)
    sizes = np.bincount(codes, minlength=len(names))
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(sizes)
    all_hard, collapsed = _unclustered(clusterer, sizes)
    labels = np.empty(n, np.int32)
    used = 0
    for code, name in enumerate(names):
        rows = order[ends[code - 1] if code else 0 : ends[code]]
        if all_hard[code] or collapsed[code]:
            local = np.zeros(len(rows), np.int32)
        else:
            local = _clustered(inner, matrix[rows], f"source {name!r}")
        labels[rows] = np.where(local >= 0, local + used, NOISE)
        used += int(local.max(initial=-1)) + 1
    return Clustering(labels, codes, all_hard, collapsed)


def check_rows(clusterer: Any, rows: int, has_sources: bool) -> None:
    """Raise InputError where `clusterer` is bound to refuse a dataset of that many rows, with or without sources."""
    if is_per_source(clusterer):
        if not has_sources:
            raise InputError(_NO_SOURCES)
        return
    sizes = _sizes(clusterer)
    for name in ("n_clusters", "n_components"):
        if rows < sizes.get(name, 1):
            raise _too_few(rows, sizes[name], name)


def _too_few(rows: int, clusters: int, parameter: str) -> InputError:
    return InputError(f"{rows} rows cannot make {clusters} clusters; lower {parameter} or give more rows")


def collapsed_sources(clusterer: Any, sources: Any, n: int) -> tuple[dict[str | None, int], int, int]:
    """({source: rows} of those with too few rows to be clustered, the rows they need, clusters in each).

    sources: (n,) labels. Empty for a clusterer that does not work per source.
    """
    if not is_per_source(clusterer):
        return {}, 1, 1
    codes, names = source_codes(sources, n)
    sizes = np.bincount(codes, minlength=len(names))
    _, collapsed = _unclustered(clusterer, sizes)
    return {names[code]: int(sizes[code]) for code in np.flatnonzero(collapsed)}, *_rows_needed(_inner(clusterer))


def _inner(clusterer: Any) -> Any:
    """What a clusterer that works per source runs in each."""
    return clusterer.clusterer if isinstance(clusterer, PerSource) else clusterer.model_copy(update={"per": None})


def _unclustered(clusterer: Any, sizes: Array) -> tuple[BoolArray, BoolArray]:
    """(all_hard (g,), collapsed (g,)) of the sources with that many rows each, see `Clustering`."""
    needed, k = _rows_needed(_inner(clusterer))
    all_hard = np.zeros(len(sizes), bool)
    if not isinstance(clusterer, Quantile) and clusterer.small_sources == "all_hard":
        all_hard = (sizes * len(sizes) < sizes.sum()) | (sizes < ROWS_PER_CLUSTER * k)
    return all_hard, ~all_hard & (sizes < needed)


def _clustered(clusterer: Any, matrix: Array, where: str) -> Labels:
    """Labels (n,) int32 in 0, 1, 2... without gaps, -1 = noise, of one group of rows."""
    if len(matrix) >= max(2, _rows_needed(clusterer)[0]) and (matrix == matrix[0]).all():
        return np.zeros(len(matrix), np.int32)
    name = type(clusterer).__qualname__
    try:
        raw = np.asarray(_fresh(clusterer).fit_predict(matrix))
    except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
        # scikit-learn raises all of them for parameters that do not go together; elsewhere they are faults.
        if not isinstance(error, ValueError) and not type(clusterer).__module__.startswith("sklearn."):
            raise
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{name} cannot cluster {where} ({len(matrix)} rows): {reason}") from error
    if raw.shape != (len(matrix),) or not np.issubdtype(raw.dtype, np.integer):
        got = f"{raw.dtype} of shape {raw.shape}"
        raise InputError(f"{name}.fit_predict returned {got}; it must return {len(matrix)} integers")
    distinct, labels = np.unique(raw, return_inverse=True)
    return np.maximum(labels - np.count_nonzero(distinct < 0), NOISE).astype(np.int32)


def _parameters(clusterer: Any) -> dict[str, Any]:
    if isinstance(clusterer, Component):
        return {name: getattr(clusterer, name) for name in type(clusterer).model_fields}
    from sklearn.base import BaseEstimator

    return clusterer.get_params() if isinstance(clusterer, BaseEstimator) else {}


def _rows_needed(clusterer: Any) -> tuple[int, int]:
    """Rows below which the clusterer cannot run, and its number of clusters (2 where it has none)."""
    sizes = _sizes(clusterer)
    return max([1, *sizes.values()]), sizes.get("n_clusters", sizes.get("n_components", 2))


def _sizes(clusterer: Any) -> dict[str, int]:
    """The clusterer's parameters that are a number of clusters or of rows."""
    names = ("n_clusters", "n_components", "min_samples", "min_cluster_size")
    # The last part of the name: in a scikit-learn Pipeline the clusterer's are called step__parameter.
    last = {name.rsplit("__", 1)[-1]: value for name, value in _parameters(clusterer).items()}
    return {name: last[name] for name in names if isinstance(last.get(name), int)}


def _fresh(clusterer: Any) -> Any:
    """The clusterer, or an unfitted copy of one that keeps state: a caller's object is never fitted."""
    if isinstance(clusterer, Component):
        return clusterer
    from sklearn.base import BaseEstimator, clone

    return clone(clusterer) if isinstance(clusterer, BaseEstimator) else copy.deepcopy(clusterer)


def seeded(clusterer: Any, seed: int) -> Any:
    """`clusterer` with every `random_state` that is None set to one derived from the run's seed.

    A copy (of a scikit-learn object: its clone, nested estimators included), for the recipe to record; an
    object without an open `random_state` comes back as it is.
    """
    number = derive_seed(seed, "clusterer")
    if isinstance(clusterer, PerSource):
        return clusterer.model_copy(update={"clusterer": seeded(clusterer.clusterer, seed)})
    parameters = _parameters(clusterer)
    open_states = {
        name: number
        for name, value in parameters.items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    }
    if not open_states:
        return clusterer
    if isinstance(clusterer, Component):
        return clusterer.model_copy(update=open_states)
    return _fresh(clusterer).set_params(**open_states)


@runtime_checkable
class Clusterer(Protocol):
    """scikit-learn's clustering interface; -1 is noise."""

    def fit_predict(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Integer labels (n,) of the rows of X (n, f)."""
        ...
