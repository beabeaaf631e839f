"""Shard weights, gradients and optimizer state over ranks (FSDP2), for models that do not fit on one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from curate.devices import distributed
from curate.errors import InputError
from curate.models.forward import batch_losses, logit_map


def shard_(model: Any, device: torch.device) -> None:
    """Keep on each rank an equal part of every parameter; layers are gathered one at a time as they run.

    Tested with gloo on the CPU only. Gradients are added up, not averaged, as without sharding.

    Afterwards losses come from `model.batch_losses`, which every rank must call equally often, since each call waits
    for the others; parameters are DTensors, except inside `unsharded`. All ranks must call it. Raises InputError for
    one process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if distributed.world_size() == 1:
        raise InputError('sharding="fsdp" needs several processes; start them with torchrun, or leave it out')
    if logit_map(model) is None:  # determined now, while the model can be run by one rank alone
        raise InputError("a model whose LM head is not a plain linear layer cannot be sharded; leave sharding out")
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    layers = [m for group in model.modules() if isinstance(group, torch.nn.ModuleList) for m in group]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in (module for module in model.modules() if isinstance(module, FSDPModule)):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo, and NCCL for some sizes, cannot scale as they add
    # The decoder and the head are called separately, and both need the root's weights.
    model.batch_losses = partial(batch_losses, model)
    register_fsdp_forward_method(model, "batch_losses")


@contextmanager
def unsharded(model: Any, *, keep: bool = False) -> Iterator[None]:
    """Unsharded weights on every rank inside the context (with `keep`, also after it), to be read and saved.

    All ranks must enter it. A model that is not sharded is unchanged.
    """
    from torch.distributed.tensor import DTensor

    shards = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if isinstance(parameter, DTensor)
    ]
    plain: dict[Any, torch.nn.Parameter] = {}  # keeps tied weights tied
    for module, name, parameter in shards:
        if parameter not in plain:
            sharded: Any = parameter.detach()
            plain[parameter] = torch.nn.Parameter(sharded.full_tensor(), parameter.requires_grad)
        module.register_parameter(name, plain[parameter])
    try:
        yield
    finally:
        for module, name, parameter in shards if not keep else []:
            module.register_parameter(name, parameter)


def full_optimizer_state(model: Any, optimizer: Any) -> dict[str, dict[str, torch.Tensor]]:
    """State of a sharded optimizer by parameter name, unsharded, on rank 0's CPU; empty on other ranks.

    All ranks must call it while the model's parameters are sharded. A run with any number of ranks can load it.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    if not optimizer.state:
        return {}  # without any state, torch would take a step of zero gradients to create it
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: Any = get_optimizer_state_dict(model, optimizer, options=options).get("state", {})
    return dict(state)
