"""Whether a model draws at random while it trains: dropout of any kind, layers left out, jitter in a router."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from curate.models.modes import restored

__all__ = ["draws_at_random"]


def draws_at_random(model: Any) -> bool:
    """Whether a forward pass in training mode draws a random number.

    Seen by running one token through and looking at the generators, besides at dropout modules, which that token may
    not reach: names of settings differ between architectures, and code of a model's own has others again.
    """
    if any(isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.p > 0 for part in model.modules()):
        return True
    device = next(model.parameters()).device
    with torch.no_grad(), restored(model):
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
