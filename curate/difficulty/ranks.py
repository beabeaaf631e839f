"""Average ranks, as those of SciPy without its import, which takes longer than small runs compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def average_ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(n,) ranks from 1 on; equal values share the mean of their ranks. values: (n,) without NaN."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # the rank of the last of each value
    return np.asarray((last - (counts - 1) / 2)[places], np.float64)
