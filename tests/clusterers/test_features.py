"""Feature matrices and source codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.clusterers import (
    KMeans,
)
from curate.clusterers.features import source_codes
from curate.errors import InputError


@pytest.mark.parametrize("X", [np.zeros((0, 2)), np.zeros((3, 0)), np.zeros(3), np.array([["a"], ["b"]])])
def test_not_a_feature_matrix(X: np.ndarray) -> None:
    with pytest.raises(InputError, match="features have"):
        KMeans().fit_predict(X)


@pytest.mark.parametrize(
    "sources",
    [
        ["b", None, "a", "b"],
        np.array(["b", None, "a", "b"], object),
        pa.array(["b", None, "a", "b"]),
        pa.chunked_array([["b", None], ["a", "b"]]),
        pa.array(["b", None, "a", "b"]).dictionary_encode(),
        pa.array(["b", None, "a", "b"], pa.large_string()),
    ],
    ids=lambda sources: type(sources).__name__,
)
def test_source_codes(sources: Any) -> None:
    codes, names = source_codes(sources, 4)
    assert codes.tolist() == [1, 2, 0, 1]
    assert names == ["a", "b", None]
