"""Detect out-of-memory errors on this rank and on others; free the GPU for another process."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from curate.devices import distributed

if TYPE_CHECKING:
    import torch


class OutOfMemory(Exception):
    """Part of a step did not fit in the memory of another rank."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed: CUDA's error has its own class, others are recognized by their messages."""
    import torch

    words = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def leave_gpus() -> None:
    """Free the GPU memory of models that are no longer used: PyTorch caches it, and a server in another
    process could not start. Does nothing if no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    gc.collect()
    torch.cuda.empty_cache()


def free_gpu_share() -> float | None:
    """Share of memory that is free on the fullest visible GPU, in [0, 1]; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    sizes = [torch.cuda.mem_get_info(device) for device in range(torch.cuda.device_count())]  # (free, all) bytes
    return min(free / total for free, total in sizes)


def on_all_ranks(compute: Callable[[], None], device: torch.device) -> None:
    """Run `compute`, which must not use collectives; if memory runs out on one rank, all ranks raise.

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
