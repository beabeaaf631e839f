"""Weights, gradients and moments shared out over ranks (FSDP2), for models that do not fit on each of them.

Tested with gloo on the CPU only. Gradients are added up, not averaged, as without sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from curate.devices import distributed
from curate.errors import InputError
from curate.models.forward import batch_losses, logit_map
from curate.optimizers.protocols import SteppedOptimizer

__all__ = ["GatheredOptimizer", "place_", "shard_", "sharded_losses", "whole"]


def shard_(model: Any, device: torch.device) -> None:
    """Leave on each rank an equal part of every parameter; layers are put together one at a time as they run.

    From now on losses come from `sharded_losses`, and parameters are DTensors, except inside `whole`. Raises
    InputError for one process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if distributed.world_size() == 1:
        raise InputError('sharding="fsdp" needs several processes; start them with torchrun, or leave it out')
    if logit_map(model) is None:  # also worked out now, while the model can be run by itself
        raise InputError("a model whose LM head is no plain linear layer cannot be sharded; leave sharding out")
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    layers = [m for group in model.modules() if isinstance(group, torch.nn.ModuleList) for m in group]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in _sharded(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo, and NCCL for some sizes, cannot scale as they add
    # The decoder and the head are called apart, and the root's weights have to be there for both.
    model.batch_losses = partial(batch_losses, model)
    register_fsdp_forward_method(model, "batch_losses")


def sharded_losses(model: Any) -> Callable[[Any], torch.Tensor] | None:
    """`batch_losses` of a model that is sharded, None for one that is not.

    Every rank must call it equally often: each call waits for the others.
    """
    return model.batch_losses if _sharded(model) else None


def _sharded(model: Any) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def whole(model: Any, *, keep: bool = False) -> Iterator[None]:
    """Whole weights on every rank for the while, or for good: to be read and saved. Running the model takes all ranks.

    All ranks must call it. A model that is not sharded stays as it is.
    """
    from torch.distributed.tensor import DTensor

    held = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if isinstance(parameter, DTensor)
    ]
    plain: dict[Any, torch.nn.Parameter] = {}  # tied weights stay tied
    for module, name, parameter in held:
        if parameter not in plain:
            found: Any = parameter.detach()
            plain[parameter] = torch.nn.Parameter(found.full_tensor(), parameter.requires_grad)
        module.register_parameter(name, plain[parameter])
    try:
        yield
    finally:
        for module, name, parameter in held if not keep else []:
            module.register_parameter(name, parameter)


class GatheredOptimizer:
    """A sharded optimizer whose saved state is that of an unsharded one. Making and loading it takes all ranks."""

    def __init__(self, optimizer: SteppedOptimizer) -> None:
        self.optimizer = optimizer
        self.gathered = optimizer.state_dict()
        self.gathered["state"] = {
            position: {key: _full(value) for key, value in held.items()}
            for position, held in self.gathered["state"].items()
        }

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    def step(self, closure: Any) -> Any:
        return self.optimizer.step(closure)

    def state_dict(self) -> dict[str, Any]:
        return self.gathered

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        state = {
            position: {key: _placed(value, parameters[position]) for key, value in held.items()}
            for position, held in state_dict["state"].items()
        }
        self.optimizer.load_state_dict({**state_dict, "state": state})


def place_(tensor: torch.Tensor, value: torch.Tensor) -> None:
    """Copy `value`, which is whole, into `tensor`, which may be sharded; all ranks hold the same value."""
    tensor.copy_(_placed(value, tensor))


def _placed(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _full(value: Any) -> Any:
    """`value` whole, on rank 0's CPU and empty elsewhere, if it is sharded."""
    from torch.distributed.tensor import DTensor

    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if distributed.rank() == 0 else full.new_empty(0)
