"""Save and restore the modes, random states and weights of a model; detect randomness in its forward pass."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from curate.errors import InputError


def state_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Weights and persistent buffers by name; tensors with two names (tied embeddings) appear under the first."""
    tensor_ids: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in tensor_ids:
            tensor_ids.add(id(tensor))
            tensors[name] = tensor.detach()
    return tensors


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Put the model in eval mode, and restore every module's own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def preserve_state(model: Any) -> Iterator[None]:
    """Restore modes, requires_grad, random states (python, numpy, torch, cuda) and cudnn flags at the end."""
    modes = [(module, module.training) for module in model.modules()]
    gradient_flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    flags = {name: getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in gradient_flags:
            parameter.requires_grad_(requires_grad)
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        for name, value in flags.items():
            setattr(torch.backends.cudnn, name, value)


@contextmanager
def read_only_eval(model: Any, step: int) -> Iterator[None]:
    """Put the model in eval mode; afterwards everything must be as before, weights included, else InputError."""
    before = _checksum(model)
    with preserve_state(model):
        model.eval()
        yield
    model.zero_grad(set_to_none=True)
    if _checksum(model) != before:
        raise InputError(
            f"the weights changed while the checkpoint of step {step} was measured; put them back bit "
            "for bit (from copies: adding and subtracting is not exact)"
        )


def _checksum(model: Any) -> list[int]:
    """One exact number per weight tensor: the sum of its bits as integers."""
    weights = [tensor for tensor in state_tensors(model).values() if tensor.dtype == torch.float32]
    return torch.stack([tensor.view(torch.int32).sum(dtype=torch.int64) for tensor in weights]).tolist()


def uses_randomness(model: Any) -> bool:
    """Whether a forward pass in training mode draws a random number.

    Checked by running one token through the model and comparing random states, and by dropout modules, which that token
    may not reach; names of dropout settings differ between architectures.
    """
    if any(isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.p > 0 for part in model.modules()):
        return True
    device = next(model.parameters()).device
    with torch.no_grad(), preserve_state(model):
        model.train()
        before = _generators(device)
        model(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=device), use_cache=False)
        return _generators(device) != before


def _generators(device: torch.device) -> list[Any]:
    """The states of all generators that a model may draw from."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - what a model may use
    states = [
        random.getstate(),
        repr(legacy["state"]["key"].tolist()),
        legacy["state"]["pos"],
        torch.get_rng_state().numpy().tobytes(),
    ]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state(device).numpy().tobytes())
    return states
