"""Collective operations that also work in a single process, without a process group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.errors import InputError

if TYPE_CHECKING:
    import torch


_BUCKET_ELEMENTS = 16 * 1024 * 1024  # 64 MiB of float32: enough to saturate a link, small beside a model


def start() -> None:
    """Join torchrun's process group, on every rank; does nothing without torchrun or if already joined."""
    import torch
    import torch.distributed as dist

    if dist.is_available() and dist.is_torchelastic_launched() and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(local_device())
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """This process's rank, 0 without a process group."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local_device() -> torch.device:
    """The accelerator that belongs to this process (torchrun's LOCAL_RANK), else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def named_device(name: str) -> torch.device:
    """The device of this name, after a value was put there and read back: some names are only placeholders (meta).

    Raises InputError for one that cannot be used.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); try cpu") from error
    return device


def barrier() -> None:
    """Wait for all ranks. All ranks must call it."""
    import torch.distributed as dist

    if world_size() > 1:
        dist.barrier()


def any_rank(flag: bool) -> bool:
    """Whether `flag` is true on at least one rank; the same on all ranks. All ranks must call it."""
    import torch

    return bool(sum_(torch.tensor([int(flag)])).item())


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Replace `tensor` by its sum over all ranks and return it. All ranks must call it with the same shape."""
    import torch.distributed as dist

    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def broadcast_(tensors: Sequence[torch.Tensor]) -> None:
    """Copy the values of `tensors` from rank 0 to every rank, in place. All ranks must call it."""
    import torch.distributed as dist

    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def sum_gradients_(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replace the gradients by their sums over all ranks, bit-identical on every rank. All ranks must call it.

    Ranks divide the examples of each optimizer batch; their sums are reduced here. Sums, not means:
    every rank already divides by the token count of the whole batch.

    A parameter without a gradient on some ranks counts as zero there; one without a gradient on every rank
    keeps None, so that the optimizer leaves it alone exactly as it would in one process.
    """
    import torch
    import torch.distributed as dist

    if world_size() == 1:
        return
    device = parameters[0].device
    used = sum_(torch.tensor([float(p.grad is not None) for p in parameters], device=device)).tolist()
    shared = [p for p, count in zip(parameters, used, strict=True) if count > 0]
    buckets = _buckets(shared)
    flat = [torch.cat([_gradient(p).reshape(-1) for p in bucket]) for bucket in buckets]
    pending = [dist.all_reduce(bucket, async_op=True) for bucket in flat]
    for bucket, summed, handle in zip(buckets, flat, pending, strict=True):
        handle.wait()
        for parameter, part in zip(bucket, summed.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = part.view_as(parameter)


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    import torch

    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Consecutive parameters of one dtype, up to the bucket size (a larger parameter alone)."""
    buckets: list[list[torch.nn.Parameter]] = []
    filled = 0
    for parameter in parameters:
        full = filled + parameter.numel() > _BUCKET_ELEMENTS
        if not buckets or full or buckets[-1][0].dtype != parameter.dtype:
            buckets.append([])
            filled = 0
        buckets[-1].append(parameter)
        filled += parameter.numel()
    return buckets
