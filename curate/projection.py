"""Seeded random projections that nearly keep lengths and angles (Johnson and Lindenstrauss, 1984)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.seeds import derive_seed

if TYPE_CHECKING:
    import torch

__all__ = ["Factors", "projection"]


def projection(size: int, dimensions: int, seed: int, device: Any) -> torch.Tensor:
    """(size, dimensions) float32 of +-1 / sqrt(dimensions), each sign even: x @ R has the length of x on average.

    The same numbers on every device. For unit vectors the error of an inner product is about 1 / sqrt(dimensions).
    """
    import torch

    signs = np.random.default_rng(seed).integers(0, 2, (size, dimensions), dtype=np.int8) * 2 - 1
    return torch.from_numpy(signs).to(device, torch.float32) / math.sqrt(dimensions)


class Factors:
    """The projection of matrices G (o, i) to left^T G right (a, b), a * b at most `dimensions`.

    That is the projection of vec(G) by the Kronecker product of two small ones, which nobody has to hold, and of a
    sum of outer products the sum of outer products of projected vectors. A side that is small enough stays as it is.
    Inner products are right on average. The error is that of one dense projection to a * b dimensions where G has high
    rank, and about sqrt(a + b) times as large where it has rank one.
    """

    def __init__(self, rows: int, columns: int, dimensions: int, seed: int, device: Any) -> None:
        a = min(rows, max(1, math.isqrt(dimensions)))
        b = min(columns, max(1, dimensions // a))
        a = min(rows, max(1, dimensions // b))
        self.shape = (a, b)
        self.left = None if a == rows else projection(rows, a, derive_seed(seed, "left"), device)
        self.right = None if b == columns else projection(columns, b, derive_seed(seed, "right"), device)

    def of_rows(self, vectors: torch.Tensor) -> torch.Tensor:
        """(..., a) from vectors (..., o) on the left of an outer product."""
        return vectors if self.left is None else vectors @ self.left

    def of_columns(self, vectors: torch.Tensor) -> torch.Tensor:
        """(..., b) from vectors (..., i) on the right of an outer product."""
        return vectors if self.right is None else vectors @ self.right

    def of(self, matrix: torch.Tensor) -> torch.Tensor:
        """(a, b) from a matrix (o, i)."""
        narrow = self.of_columns(matrix)
        return narrow if self.left is None else self.left.t() @ narrow
