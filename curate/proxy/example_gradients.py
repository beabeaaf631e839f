"""Per-example gradients at a checkpoint of the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from curate import models
from curate.component import Component, fingerprint
from curate.errors import InputError
from curate.proxy.measures import LiveCheckpoint
from curate.proxy.predictions import batches, predictions, projection
from curate.seeds import derive_seed
from curate.tokenization.tokens import Tokens
from curate.types import IntArray

if TYPE_CHECKING:
    import torch

    from curate.models.batches import Batch


_TOKENS = {"cpu": 1024}  # tokens of a batch whose activations are kept for the backward pass
_TOKENS_ELSEWHERE = 8192


class GradientParts(Component):
    """The part of the gradient of an example's mean loss per token that is computed.

    parameters:
        last-layer: of the LM head's weight as output layer only (also if it is tied), in closed form.
        lora: of the factors B of adapters W + B A on the attention projections, at B = 0, with A fixed and random.
        all: of every trainable parameter, one example at a time.
    rank: rows of A.
    """

    parameters: Literal["all", "last-layer", "lora"]
    rank: int = Field(ge=1)


def example_gradients(
    checkpoint: LiveCheckpoint, tokens: Tokens, of: GradientParts
) -> Iterator[tuple[IntArray, list[torch.Tensor]]]:
    """Positions (b,) of some valid rows of `tokens` and their gradients, until all are done.

    The gradients are float32, one tensor (b, ...) per weight. Adapters are drawn from the proxy's seed, the same at all
    checkpoints. Raises InputError if the model has no such parameters.
    """
    if of.parameters == "all":
        return _all(checkpoint, tokens)
    if models.logit_map(checkpoint.model) is None:
        raise InputError(
            f"{type(checkpoint.model).__name__} has no LM head that is known to make its logits; choose "
            "parameters='all'"
        )
    return _last_layer(checkpoint, tokens) if of.parameters == "last-layer" else _lora(checkpoint, tokens, of)


def _last_layer(checkpoint: LiveCheckpoint, tokens: Tokens) -> Iterator[tuple[IntArray, list[torch.Tensor]]]:
    """Sum over t of (p_t - y_t) h_t^T / tokens (v, d), one row at a time, without a backward pass."""
    counts = tokens.completion_tokens
    for batch in batches(checkpoint, tokens):
        total: torch.Tensor | None = None
        missing = 0
        for part in predictions(checkpoint, batch):
            assert part.hidden is not None
            rows, positions = (values.tolist() for values in part.rows.unique_consecutive(return_counts=True))
            errors, hidden = part.product_gradients().split(positions), part.hidden.float().split(positions)
            # The first row of a part may have begun in the previous part.
            for row, error, state in zip(rows, errors, hidden, strict=True):
                product = error.t() @ state  # (v, d)
                total = product if total is None else total.add_(product)
                missing = (missing or int(counts[row])) - len(error)
                if missing == 0:
                    yield np.array([row], np.int64), [total.div_(int(counts[row]))[None]]
                    total = None


def _lora(
    checkpoint: LiveCheckpoint, tokens: Tokens, parts_spec: GradientParts
) -> Iterator[tuple[IntArray, list[torch.Tensor]]]:
    """Sum over t of d_t (A x_t)^T: x_t the inputs of a projection, d_t the gradients of its outputs.

    One backward pass gives the d_t of all rows of a batch at once, without gradients of the weights themselves.
    """
    import torch

    modules = _attention_projections(checkpoint.model)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}  # module -> A x (b, t, rank), output (b, t, o)

    def record(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            x = inputs[0].detach().float()
            seen[name] = (x @ _adapter(checkpoint, parts_spec, name, x.shape[-1]), output)

        return hook

    for batch in batches(checkpoint, tokens, _TOKENS.get(checkpoint.device.type, _TOKENS_ELSEWHERE)):
        handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
        try:
            losses = _mean_losses(checkpoint, tokens, batch)
        finally:
            for handle in handles:
                handle.remove()
        gradients = torch.autograd.grad(losses.sum(), [output for _, output in seen.values()], materialize_grads=True)
        # one (b, o, rank) per projection
        parts = [d.float().transpose(1, 2) @ x for (x, _), d in zip(seen.values(), gradients, strict=True)]
        seen.clear()
        yield batch.rows.cpu().numpy(), parts


def _all(checkpoint: LiveCheckpoint, tokens: Tokens) -> Iterator[tuple[IntArray, list[torch.Tensor]]]:
    """Gradients of every trainable parameter by one backward pass per row; the parameters' own .grad is unchanged."""
    import torch

    parameters = [p for p in checkpoint.model.parameters() if p.requires_grad]
    for row in np.flatnonzero(tokens.valid):
        batch = models.make_batch(tokens, [row]).to(checkpoint.device)
        losses = _mean_losses(checkpoint, tokens, batch)
        gradients = torch.autograd.grad(losses[0], parameters, materialize_grads=True)
        yield np.array([row], np.int64), [gradient[None] for gradient in gradients]


def _mean_losses(checkpoint: LiveCheckpoint, tokens: Tokens, batch: Batch) -> torch.Tensor:
    """(b,) float32 mean losses, differentiable."""
    import torch

    counts = torch.from_numpy(tokens.completion_tokens[batch.rows.cpu().numpy()]).to(checkpoint.device)
    with torch.enable_grad():
        return models.batch_losses(checkpoint.model, batch) / counts


def _adapter(checkpoint: LiveCheckpoint, parts_spec: GradientParts, name: str, inputs: int) -> torch.Tensor:
    """A^T (inputs, rank) of the adapter on one projection, drawn once."""
    key = f"{fingerprint(parts_spec)} {name}"
    if key not in checkpoint.run_memo:
        seed = derive_seed(checkpoint.seed, "adapter", name)
        checkpoint.run_memo[key] = projection(inputs, parts_spec.rank, seed, checkpoint.device)
    factor: torch.Tensor = checkpoint.run_memo[key]
    return factor


def _attention_projections(model: Any) -> dict[str, Any]:
    """The linear layers inside attention modules, by name."""
    import torch

    projections = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D")
        and any("attn" in part or "attention" in part for part in name.split("."))
    }
    if not projections:
        raise InputError(
            f"{type(model).__name__} has no linear layers inside modules named attention; choose "
            "parameters='last-layer'"
        )
    return projections
