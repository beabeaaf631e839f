"""Mean gradient of some rows outside the training loop: of a domain, a target or a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from curate.devices import distributed
from curate.devices.memory import on_all_ranks
from curate.errors import InputError
from curate.models.batches import Batch, make_batch, plan_batches
from curate.models.forward import batch_losses
from curate.models.modes import preserve_state
from curate.tokenization.tokens import Tokens
from curate.types import IntArray


def mean_gradient(
    model: Any,
    tokens: Tokens,
    *,
    device: torch.device,
    half: bool = False,
    budget: int,
    make_batch: Callable[[Tokens, IntArray], Batch] = make_batch,
    shared: bool = True,
) -> list[torch.Tensor]:
    """Gradient of the mean loss per completion token over the valid rows of `tokens`, in nats per token.

    One float32 tensor per trainable parameter of the model, in its order; their own `.grad`, and the modes of modules,
    stay as they are. In eval mode, so that nothing drops out.

    half: in bfloat16 autocast. budget: most tokens of a batch. make_batch: rows as the model takes them now. shared:
    whether ranks share out the rows and add up; all of them must call it then. InputError if no row is valid.
    """
    rows = np.flatnonzero(tokens.valid)  # (valid rows,)
    if len(rows) == 0:
        raise InputError("there is no row with completion text to take a gradient of")
    total = float(tokens.completion_tokens[rows].sum())
    own_rows = rows[distributed.rank() :: distributed.world_size()] if shared else rows
    parameters = [p for p in model.parameters() if p.requires_grad]
    own_gradients = [p.grad for p in parameters]

    def add_up() -> None:  # runs on every rank, on the rank's own rows
        for part in plan_batches(tokens.lengths[own_rows], budget) if len(own_rows) else []:
            losses = batch_losses(model, make_batch(tokens, own_rows[part]).to(device))
            with torch.autocast(device.type, enabled=False):
                (losses.sum() / total).backward()

    with preserve_state(model), torch.enable_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        model.eval()
        try:
            for parameter in parameters:
                parameter.grad = None
            on_all_ranks(add_up, device) if shared else add_up()
            if shared:
                distributed.sum_gradients_(parameters)
            return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        finally:
            for parameter, grad in zip(parameters, own_gradients, strict=True):
                parameter.grad = grad
