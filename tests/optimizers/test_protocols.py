"""Optimizers refuse models that they cannot update."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curate.errors import InputError
from curate.optimizers import SAM, FunctionalSAM, Muon


def test_sharded_matrices_are_refused() -> None:
    from torch import distributed as dist
    from torch.distributed.tensor import Replicate, distribute_tensor, init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = torch.nn.Linear(4, 6, bias=False)
        mesh = init_device_mesh("cpu", (1,))
        model.weight = torch.nn.Parameter(distribute_tensor(model.weight.detach(), mesh, [Replicate()]))
        optimizers: list[Any] = [Muon(), SAM(), FunctionalSAM()]
        for optimizer in optimizers:
            with pytest.raises(InputError, match=rf"{type(optimizer).__name__} needs whole weights .* use AdamW"):
                optimizer.build(model, learning_rate=0.01, weight_decay=0.0)
    finally:
        dist.destroy_process_group()
