"""All of a machine that may show in the last digits of a loss."""

from __future__ import annotations

import shutil
from typing import Any, Literal

from curate.devices.distributed import world_size
from curate.devices.precision import resolve_precision

__all__ = ["numerics"]


def numerics(precision: Literal["auto", "float32", "bfloat16"], device: Any) -> dict[str, Any]:
    """Device, precision, threads and versions that a proxy is trained and measured under, as JSON."""
    import torch
    import transformers

    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "device": device.type,
        "kind": kind,
        "precision": str(resolve_precision(precision, device)),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "compiler": shutil.which("g++") is not None,
        "world": world_size(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
