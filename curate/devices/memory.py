"""Telling that memory has run out from everything else that can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from curate.devices import distributed

if TYPE_CHECKING:
    import torch


class OutOfMemory(Exception):
    """Some part of a step did not fit, on one rank at least: all of them raise this."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed: CUDA's error has a class of its own, the others are known by their words."""
    import torch

    words = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)


def on_all_ranks(compute: Callable[[], None], device: torch.device) -> None:
    """Compute what asks nothing of other ranks; where memory runs out on one, no rank goes on to wait for it.

    The rank in question raises its own error, the others OutOfMemory. All ranks must call it.
    """
    import torch

    failure: RuntimeError | None = None
    try:
        compute()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        failure = error
    failed = distributed.sum_(torch.tensor([float(failure is not None)], device=device))
    if failure is not None:
        raise failure
    if failed.item() > 0:
        raise OutOfMemory("memory ran out on another rank")
