"""Seeded random projections that nearly keep lengths and angles (Johnson and Lindenstrauss, 1984)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


__all__ = ["projection"]


def projection(size: int, dimensions: int, seed: int, device: Any) -> torch.Tensor:
    """(size, dimensions) float32 of +-1 / sqrt(dimensions), each sign even: x @ R has the length of x on average.

    The same numbers on every device. For unit vectors the error of an inner product is about 1 / sqrt(dimensions).
    """
    import torch

    signs = np.random.default_rng(seed).integers(0, 2, (size, dimensions), dtype=np.int8) * 2 - 1
    return torch.from_numpy(signs).to(device, torch.float32) / math.sqrt(dimensions)
