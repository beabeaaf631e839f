"""The scikit-learn estimators that a recipe may name, and the values that it may give them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import sklearn.cluster
import sklearn.mixture
from sklearn.cluster import Birch

from curate.clusterers.estimators import _PARAMETERS
from curate.clusterers.per_source import cluster_rows
from curate.component import fingerprint
from curate.errors import InputError
from curate.recipe import decode, encode

# What reaches a file, a function, another object or all processors, by any estimator that takes it.
OUT_OF_REACH = ("memory", "connectivity", "metric_params", "kernel_params", "n_jobs", "verbose", "warm_start", "seeds")


@pytest.mark.filterwarnings("ignore:The default value of `copy`:FutureWarning")
@pytest.mark.parametrize("key", _PARAMETERS)
def test_what_is_listed_takes_plain_values_and_nothing_else(key: str) -> None:
    part, _, name = key.partition(".")
    kind = getattr(getattr(sklearn, part), name)
    known = inspect.signature(kind).parameters
    assert set(_PARAMETERS[key]) <= set(known)
    assert not set(_PARAMETERS[key]) & set(OUT_OF_REACH)
    use = {"use": f"sklearn.{key}"}
    made = decode(use, "clusterer")
    assert type(made) is kind
    features = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    assert len(cluster_rows(made, features).labels) == 40
    assert fingerprint(decode(encode(made), "clusterer")) == fingerprint(made)
    for parameter in known:
        for value in (
            "/etc/passwd",
            "os.system",
            {"a": 1},
            [["x"]],
            Birch(),
            print,
            [[float("nan")]],
            b"x",
        ):
            with pytest.raises(InputError) as caught:
                decode(use | {parameter: value}, "clusterer")
            assert parameter in str(caught.value)
            assert "\n" not in str(caught.value)
    for parameter, default in known.items():
        if parameter in _PARAMETERS[key] and default.default != "warn":
            decode(use | {parameter: default.default}, "clusterer")


@pytest.mark.parametrize(
    "name",
    [
        "sklearn.pipeline.Pipeline",
        "sklearn.cluster.FeatureAgglomeration",
        "sklearn.utils.Bunch",
        "sklearn.externals.array_api_compat.Any",
        "sklearn.cluster.os.System",
        "sklearn.cluster._kmeans.SourceOf",
        "sklearn.cluster..KMeans",
        "sklearn.KMeans",
        "sklearn.mixture.KMeans",
    ],
)
def test_what_is_not_listed_is_not_even_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr("curate.recipe.importlib.import_module", imported.append)
    with pytest.raises(InputError, match=r"choose one of sklearn\.cluster.*--allow-plugin sklearn"):
        decode({"use": name}, "clusterer")
    assert imported == []


@pytest.mark.parametrize("parameter", ["n_init", "max_iter"])
def test_a_recipe_cannot_ask_for_work_without_end(parameter: str) -> None:
    with pytest.raises(InputError, match=parameter):
        decode({"use": "sklearn.cluster.KMeans", parameter: 10**9}, "clusterer")
