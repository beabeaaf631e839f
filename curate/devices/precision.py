"""Number format, batch size and numerics of a device."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from curate.devices.distributed import world_size
from curate.errors import InputError

if TYPE_CHECKING:
    import torch


Precision = Literal["auto", "float32", "bfloat16"]


CPU_TOKENS = 1024  # beyond that, activations fall out of the cache of two cores, and scoring slows down
GPU_TOKENS = 32768


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype to score in; "auto" is bfloat16 if and only if the hardware multiplies bfloat16 matrices fast."""
    import torch

    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise InputError(f'precision is "{precision}"; use "auto", "float32" or "bfloat16"')
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has AMX tiles or AVX-512 with bfloat16 dot products."""
    import torch

    predicates = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in predicates)


def default_token_budget(device: torch.device) -> int:
    """Tokens per batch that keep a GPU busy, or that fit the caches of the CPU's threads."""
    import torch

    if device.type != "cpu":
        return GPU_TOKENS
    return max(CPU_TOKENS, min(8 * CPU_TOKENS, CPU_TOKENS // 2 * torch.get_num_threads()))


def numerics(precision: Precision, device: torch.device) -> dict[str, Any]:
    """Device, precision, threads and versions under which a proxy is trained and measured, as JSON."""
    import torch

    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "device": device.type,
        "kind": kind,
        "precision": str(resolve_precision(precision, device)),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "compiler": shutil.which("g++") is not None,
        "world": world_size(),
        "torch": torch.__version__,
        "transformers": version("transformers"),  # without its import, which a run of stored losses does not need
    }
