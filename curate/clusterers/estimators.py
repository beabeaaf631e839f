"""Allowlist of scikit-learn clusterers and mixtures, with the parameters that a recipe may set."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from curate.errors import InputError, short_repr, suggestion

# Some parameters of scikit-learn take a path that is read as a pickle (`memory`), a function or another estimator, so a
# recipe may set only those listed here, to values that are checked. In Python any object can be passed.

_Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
# More would never end, on any data.
_Runs = Annotated[int, Field(strict=True, ge=1, le=1_000)]
_Steps = Annotated[int, Field(strict=True, ge=1, le=10**6)]
_Many = Annotated[int, Field(strict=True, ge=2, le=10**9)]
_Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)] | None
_Flag = Annotated[bool, Field(strict=True)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_FromZero = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
_Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
_Share = Annotated[float, Field(strict=True, ge=0, le=1)]
_Row = list[_Number]
_Matrix = list[_Row]
_Metric = Literal["euclidean", "l1", "l2", "manhattan", "cityblock", "cosine", "chebyshev", "sqeuclidean", "braycurtis"]
_More = Literal["canberra", "correlation"]
_Search = Literal["auto", "brute", "kd_tree", "ball_tree"]

_K_MEANS: dict[str, Any] = {
    "n_clusters": _Count,
    "init": Literal["k-means++", "random"] | _Matrix,
    "n_init": Literal["auto"] | _Runs,
    "max_iter": _Steps,
    "tol": _FromZero,
    "random_state": _Seed,
}
_MIXTURE: dict[str, Any] = {
    "n_components": _Count,
    "covariance_type": Literal["full", "tied", "diag", "spherical"],
    "tol": _FromZero,
    "reg_covar": _FromZero,
    "max_iter": _Steps,
    "n_init": _Runs,
    "init_params": Literal["kmeans", "k-means++", "random", "random_from_data"],
    "random_state": _Seed,
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "cluster.AffinityPropagation": {
        "damping": Annotated[float, Field(strict=True, ge=0.5, lt=1)],
        "max_iter": _Steps,
        "convergence_iter": _Steps,
        "preference": _Number | None,
        "affinity": Literal["euclidean"],
        "random_state": _Seed,
    },
    "cluster.AgglomerativeClustering": {
        "n_clusters": _Count | None,
        "metric": _Metric | _More,
        "linkage": Literal["ward", "complete", "average", "single"],
        "compute_full_tree": Literal["auto"] | _Flag,
        "distance_threshold": _FromZero | None,
        "compute_distances": _Flag,
    },
    "cluster.Birch": {"threshold": _Positive, "branching_factor": _Many, "n_clusters": _Count | None},
    "cluster.BisectingKMeans": _K_MEANS
    | {
        "init": Literal["k-means++", "random"],
        "n_init": _Runs,
        "algorithm": Literal["lloyd", "elkan"],
        "bisecting_strategy": Literal["biggest_inertia", "largest_cluster"],
    },
    "cluster.DBSCAN": {
        "eps": _Positive,
        "min_samples": _Count,
        "metric": _Metric | _More,
        "algorithm": _Search,
        "leaf_size": _Count,
        "p": _FromZero | None,
    },
    "cluster.HDBSCAN": {
        "min_cluster_size": _Many,
        "min_samples": _Count | None,
        "cluster_selection_epsilon": _FromZero,
        "max_cluster_size": _Count | None,
        "metric": _Metric | _More,
        "alpha": _Positive,
        "algorithm": _Search,
        "leaf_size": _Count,
        "cluster_selection_method": Literal["eom", "leaf"],
        "allow_single_cluster": _Flag,
        "copy": _Flag,
    },
    "cluster.KMeans": _K_MEANS | {"algorithm": Literal["lloyd", "elkan"]},
    "cluster.MeanShift": {
        "bandwidth": _Positive | None,
        "bin_seeding": _Flag,
        "min_bin_freq": _Count,
        "cluster_all": _Flag,
        "max_iter": _Steps,
    },
    "cluster.MiniBatchKMeans": _K_MEANS
    | {
        "batch_size": _Count,
        "max_no_improvement": _Count | None,
        "init_size": _Count | None,
        "reassignment_ratio": _FromZero,
    },
    "cluster.OPTICS": {
        "min_samples": _Many | _Share,
        "max_eps": Annotated[float, Field(strict=True, ge=0)],
        "metric": _Metric | _More | Literal["minkowski"],
        "p": Annotated[float, Field(strict=True, allow_inf_nan=False, ge=1)],
        "cluster_method": Literal["xi", "dbscan"],
        "eps": _FromZero | None,
        "xi": _Share,
        "predecessor_correction": _Flag,
        "min_cluster_size": _Many | _Share | None,
        "algorithm": _Search,
        "leaf_size": _Count,
    },
    "cluster.SpectralClustering": {
        "n_clusters": _Count,
        "eigen_solver": Literal["arpack", "lobpcg"] | None,
        "n_components": _Count | None,
        "random_state": _Seed,
        "n_init": _Runs,
        "gamma": _FromZero,
        "affinity": Literal["rbf", "nearest_neighbors", "laplacian", "linear", "polynomial", "sigmoid", "cosine"],
        "n_neighbors": _Count,
        "eigen_tol": Literal["auto"] | _FromZero,
        "assign_labels": Literal["kmeans", "discretize", "cluster_qr"],
        "degree": _FromZero,
        "coef0": _Number,
    },
    "mixture.BayesianGaussianMixture": _MIXTURE
    | {
        "weight_concentration_prior_type": Literal["dirichlet_process", "dirichlet_distribution"],
        "weight_concentration_prior": _Positive | None,
        "mean_precision_prior": _Positive | None,
        "mean_prior": _Row | None,
        "degrees_of_freedom_prior": _Positive | None,
        "covariance_prior": _Positive | _Row | _Matrix | None,
    },
    "mixture.GaussianMixture": _MIXTURE
    | {
        "weights_init": _Row | None,
        "means_init": _Matrix | None,
        "precisions_init": _Row | _Matrix | list[_Matrix] | None,
    },
}
# `encode` writes a class's private module: sklearn.cluster._kmeans.KMeans.
_NAME = re.compile(r"sklearn\.(cluster|mixture)(?:\.\w+)*\.(\w+)")


def estimator(name: str) -> str | None:
    """`cluster.KMeans` for sklearn.cluster.KMeans; None for classes not listed."""
    match = _NAME.fullmatch(name)
    key = None if match is None else f"{match[1]}.{match[2]}"
    return key if key in _PARAMETERS else None


def estimators() -> str:
    """Their names, for messages."""
    return ", ".join(sorted(f"sklearn.{key}" for key in _PARAMETERS))


def checked(key: str, fields: dict[str, Any], path: str) -> Any:
    """The class named by `key` (a result of `estimator`), if a recipe may create it with these fields.

    path: its place in the recipe, for messages. Raises InputError that names the parameter.
    """
    import sklearn.cluster
    import sklearn.mixture

    part, _, name = key.partition(".")
    estimator_class = getattr(sklearn.cluster if part == "cluster" else sklearn.mixture, name)
    allowed = _PARAMETERS[key]
    for parameter, value in fields.items():
        if parameter not in allowed:
            hint = suggestion(parameter, allowed, f"it may set {', '.join(allowed)}")
            if parameter in inspect.signature(estimator_class).parameters:
                hint = (
                    "it may lead to files or code; leave it out, or pass --allow-plugin sklearn if you trust the recipe"
                )
            raise InputError(f"{path}: a recipe cannot set {parameter!r} of {name}: {hint}")
        try:
            TypeAdapter(allowed[parameter]).validate_python(value)
        except ValidationError as error:
            expected = " or ".join(
                dict.fromkeys(fault["msg"].removeprefix("Input should be ") for fault in error.errors())
            )
            raise InputError(f"{path}: {name}.{parameter} should be {expected}, not {short_repr(value)}") from error
    return estimator_class
