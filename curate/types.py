"""Array types for annotations."""

import numpy as np
import numpy.typing as npt

__all__ = ["BoolArray", "Float64Array", "FloatArray", "IntArray"]

FloatArray = npt.NDArray[np.float32]
"""Losses, features and weights of examples."""
Float64Array = npt.NDArray[np.float64]
"""Statistics."""
IntArray = npt.NDArray[np.int64]
"""Positions and counts."""
BoolArray = npt.NDArray[np.bool_]
"""Masks."""
