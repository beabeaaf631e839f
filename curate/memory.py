"""Telling that memory has run out from everything else that can go wrong."""

from __future__ import annotations

import torch

__all__ = ["OutOfMemory", "out_of_memory"]


class OutOfMemory(Exception):
    """Some part of a step did not fit, on one rank at least: all of them raise this."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed: CUDA's error has a class of its own, the others are known by their words."""
    words = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)
