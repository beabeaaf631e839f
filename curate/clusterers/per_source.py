"""Run any clusterer on all rows, or within each source."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from curate.clusterers.features import NOISE, Array, Labels, SmallSources, feature_matrix, source_codes, too_few
from curate.component import Component
from curate.errors import InputError
from curate.seeds import derive_seed
from curate.types import BoolArray


@runtime_checkable
class Clusterer(Protocol):
    """scikit-learn's clustering interface; -1 is noise. Optional attributes and methods:

    per: "source" if it works within each source (`PerSource` makes any clusterer do so): a copy of it
        with per = None is run over the rows of each source.
    small_sources: how small sources are treated, see `PerSource`.
    assign(X, labels, new): labels (m,) of the rows of `new` (m, f), given the rows X (n, f) of one source and their
        labels (n,), with assigns_by, the name of the rule for records. Without it a new row joins its nearest row's.
    """

    def fit_predict(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Integer labels (n,) of the rows of X (n, f)."""
        ...


# The reference schedule does not cluster a source with fewer rows per cluster than this.
ROWS_PER_CLUSTER = 39
_NO_SOURCES = "the clusterer works per source but the rows have none: name a column (source=...) or drop `per`"


class PerSource(Component):
    """Runs a clusterer within each source, so that "hard" means hard for its source.

    clusterer: any object with `fit_predict(X)`, such as a scikit-learn clusterer or mixture.
    small_sources: "all_hard" leaves a source unclustered, and entirely hard, if it has fewer rows than the
        average source or fewer than 39 per cluster (its n_clusters or n_components, else 2). It repeats
        what the reference schedule does and marks most sources of an uneven dataset.
    """

    clusterer: Any
    small_sources: SmallSources = "cluster"

    @field_validator("clusterer")
    @classmethod
    def _check_clusterer(cls, value: Any) -> Any:
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
    return isinstance(clusterer, PerSource) or getattr(clusterer, "per", None) == "source"


def cluster_rows(clusterer: Any, X: Array, sources: Any = None) -> Clustering:
    """Run `clusterer` over the rows of X (n, f): all together, or within each source if it works per source.

    A source with fewer rows than the clusterer needs, or whose rows are all equal, is one cluster.
    InputError: a feature is not finite, too few rows in all, no sources where they are needed, or the
    clusterer refuses the data or returns anything but n integers.
    """
    matrix = feature_matrix(X)
    n = len(matrix)
    if not is_per_source(clusterer):
        labels = _clustered(clusterer, matrix, "the data")
        return Clustering(labels, np.zeros(n, np.int32), np.zeros(1, bool), np.zeros(1, bool))
    if sources is None:
        raise InputError(_NO_SOURCES)
    inner = _inner(clusterer)
    codes, names = source_codes(sources, n)
    sizes = np.bincount(codes, minlength=len(names))  # (g,)
    order = np.argsort(codes, kind="stable")  # (n,) rows, grouped by source
    ends = np.cumsum(sizes)  # (g,) end of each source in `order`
    all_hard, collapsed = _unclustered(clusterer, sizes)
    labels = np.empty(n, np.int32)  # (n,)
    used = 0
    for code, name in enumerate(names):
        rows = order[ends[code - 1] if code else 0 : ends[code]]
        if all_hard[code] or collapsed[code]:
            local = np.zeros(len(rows), np.int32)  # (rows of the source,)
        else:
            local = _clustered(inner, matrix[rows], f"source {name!r}")
        labels[rows] = np.where(local >= 0, local + used, NOISE)
        used += int(local.max(initial=-1)) + 1
    return Clustering(labels, codes, all_hard, collapsed)


def check_rows(clusterer: Any, rows: int, has_sources: bool) -> None:
    """Raise InputError if `clusterer` cannot cluster that many rows, with or without sources."""
    if is_per_source(clusterer):
        if not has_sources:
            raise InputError(_NO_SOURCES)
        return
    sizes = _sizes(clusterer)
    for name in ("n_clusters", "n_components"):
        if rows < sizes.get(name, 1):
            raise too_few(rows, sizes[name], name)


def collapsed_sources(clusterer: Any, sources: Any, n: int) -> tuple[dict[str | None, int], int, int]:
    """({source: rows} of sources too small to be clustered, the rows they need, clusters in each).

    sources: (n,) labels. Empty for a clusterer that does not work per source.
    """
    if not is_per_source(clusterer):
        return {}, 1, 1
    codes, names = source_codes(sources, n)
    sizes = np.bincount(codes, minlength=len(names))
    _, collapsed = _unclustered(clusterer, sizes)
    return {names[code]: int(sizes[code]) for code in np.flatnonzero(collapsed)}, *_rows_needed(_inner(clusterer))


def _inner(clusterer: Any) -> Any:
    """The clusterer that a per-source one runs in each source."""
    if isinstance(clusterer, PerSource):
        return clusterer.clusterer
    if isinstance(clusterer, Component):
        return clusterer.model_copy(update={"per": None})
    inner = copy.copy(clusterer)
    inner.per = None
    return inner


def _unclustered(clusterer: Any, sizes: Array) -> tuple[BoolArray, BoolArray]:
    """(all_hard (g,), collapsed (g,)) of the sources with that many rows each, see `Clustering`."""
    needed, k = _rows_needed(_inner(clusterer))
    all_hard = np.zeros(len(sizes), bool)
    if getattr(clusterer, "small_sources", "cluster") == "all_hard":
        all_hard = (sizes * len(sizes) < sizes.sum()) | (sizes < ROWS_PER_CLUSTER * k)
    return all_hard, ~all_hard & (sizes < needed)


def _clustered(clusterer: Any, matrix: Array, scope: str) -> Labels:
    """Labels (n,) int32 in 0, 1, 2... without gaps, -1 = noise, of one group of rows."""
    if len(matrix) >= max(2, _rows_needed(clusterer)[0]) and (matrix == matrix[0]).all():
        return np.zeros(len(matrix), np.int32)
    name = type(clusterer).__qualname__
    try:
        raw = np.asarray(_fresh(clusterer).fit_predict(matrix))  # (rows of the group,)
    except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
        # scikit-learn raises these for parameters that do not fit together; elsewhere they are bugs.
        if not isinstance(error, ValueError) and not type(clusterer).__module__.startswith("sklearn."):
            raise
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{name} cannot cluster {scope} ({len(matrix)} rows): {reason}") from error
    if raw.shape != (len(matrix),) or not np.issubdtype(raw.dtype, np.integer):
        received = f"{raw.dtype} of shape {raw.shape}"
        raise InputError(f"{name}.fit_predict returned {received}; it must return {len(matrix)} integers")
    distinct, labels = np.unique(raw, return_inverse=True)
    return np.maximum(labels - np.count_nonzero(distinct < 0), NOISE).astype(np.int32)


def _parameters(clusterer: Any) -> dict[str, Any]:
    """Parameters of a clusterer by name; empty if they cannot be listed."""
    if isinstance(clusterer, Component):
        return {name: getattr(clusterer, name) for name in type(clusterer).model_fields}
    from sklearn.base import BaseEstimator

    return clusterer.get_params() if isinstance(clusterer, BaseEstimator) else {}


def _rows_needed(clusterer: Any) -> tuple[int, int]:
    """Minimum number of rows for the clusterer, and its number of clusters (2 if it has none)."""
    sizes = _sizes(clusterer)
    return max([1, *sizes.values()]), sizes.get("n_clusters", sizes.get("n_components", 2))


def _sizes(clusterer: Any) -> dict[str, int]:
    """The clusterer's parameters that are numbers of clusters or rows."""
    names = ("n_clusters", "n_components", "min_samples", "min_cluster_size")
    # The last part of the name: in a scikit-learn Pipeline the clusterer's are called step__parameter.
    last = {name.rsplit("__", 1)[-1]: value for name, value in _parameters(clusterer).items()}
    return {name: last[name] for name in names if isinstance(last.get(name), int)}


def _fresh(clusterer: Any) -> Any:
    """The clusterer, or an unfitted copy if it keeps state: a caller's object is never fitted."""
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
