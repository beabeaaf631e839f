"""Ranks are those of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from curate.difficulty.ranks import average_ranks


@pytest.mark.parametrize("n", [0, 1, 2, 500])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, bool])
def test_they_are_those_of_scipy(n: int, kind: type) -> None:
    for distinct in (2, 20, 10**6):
        values = np.random.default_rng(n).integers(0, distinct, n).astype(kind)
        assert average_ranks(values).tolist() == rankdata(values).tolist()
