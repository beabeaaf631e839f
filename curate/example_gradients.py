"""Gradients of single examples, projected to a few thousand dimensions: what alignment with a target is made of.

A projected gradient is one matrix left^T G right per weight, all of them one after the other (see `Factors`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from curate.component import Component, fingerprint
from curate.errors import InputError
from curate.protocols import Ints
from curate.seeds import derive_seed

if TYPE_CHECKING:
    import torch

    from curate.forward import Batch
    from curate.projection import Factors
    from curate.tokens import Tokens
    from curate.trace import LiveCheckpoint

__all__ = ["GradientParts", "example_gradients"]

_TOKENS = {"cpu": 1024}  # of a batch whose activations are kept for the backward pass
_TOKENS_ELSEWHERE = 8192


class GradientParts(Component):
    """Which gradients of an example's mean loss per token are taken, and to how many dimensions they are brought.

    parameters:
        last-layer: of the LM head's weight, as far as it makes logits (also where it is tied), in closed form.
        lora: of the factors B of adapters W + B A on the attention projections, at B = 0, with A fixed and random.
        all: of every trainable parameter, one example at a time.
    dimensions: at most, over all weights together; each has an equal share of them. rank: rows of A.
    """

    parameters: Literal["all", "last-layer", "lora"]
    dimensions: int = Field(ge=1)
    rank: int = Field(ge=1)


def example_gradients(
    checkpoint: LiveCheckpoint, tokens: Tokens, of: GradientParts
) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Positions (b,) of some valid rows of `tokens` and their projected gradients (b, D) float32, until all are done.

    Projections are drawn from the checkpoint's seed, so that those of all checkpoints can be compared. Raises
    InputError where the model has no such parameters.
    """
    from curate.forward import logit_map

    if of.parameters == "all":
        return _all(checkpoint, tokens, of)
    if logit_map(checkpoint.model) is None:
        raise InputError(
            f"{type(checkpoint.model).__name__} has no LM head that is known to make its logits; choose "
            "parameters='all'"
        )
    return (_last_layer if of.parameters == "last-layer" else _lora)(checkpoint, tokens, of)


def _last_layer(checkpoint: LiveCheckpoint, tokens: Tokens, of: GradientParts) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Sum over t of (p_t - y_t) h_t^T / tokens, both sides projected before they are multiplied; no backward pass."""
    import torch

    from curate.predictions import batches, predictions

    weight = checkpoint.model.get_output_embeddings().weight
    factors = _factors(checkpoint, of, "head", weight.shape[0], weight.shape[1], 1)
    for batch in batches(checkpoint, tokens):
        rows = batch.rows.cpu().numpy()
        lefts, rights = [], []
        with torch.no_grad():
            for part in predictions(checkpoint, batch):
                assert part.hidden is not None
                lefts.append(factors.of_rows(part.product_gradients()))
                rights.append(factors.of_columns(part.hidden.float()))
            each = tokens.completion_tokens[rows].tolist()
            pairs = zip(torch.cat(lefts).split(each), torch.cat(rights).split(each), strict=True)
            yield rows, torch.stack([(left.t() @ right).flatten() / len(left) for left, right in pairs])


def _lora(checkpoint: LiveCheckpoint, tokens: Tokens, of: GradientParts) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Sum over t of d_t (A x_t)^T: x_t the inputs of a projection, d_t the gradients of its outputs.

    One backward pass gives the d_t of all rows of a batch at once, and none of the weights' own gradients.
    """
    import torch

    from curate.predictions import batches

    modules = _attention_projections(checkpoint.model)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def watch(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            x = inputs[0].detach().float()
            seen[name] = (x @ _adapter(checkpoint, of, name, x.shape[-1]), output)

        return hook

    for batch in batches(checkpoint, tokens, _TOKENS.get(checkpoint.device.type, _TOKENS_ELSEWHERE)):
        handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
        try:
            losses = _mean_losses(checkpoint, tokens, batch)
        finally:
            for handle in handles:
                handle.remove()
        gradients = torch.autograd.grad(losses.sum(), [output for _, output in seen.values()], materialize_grads=True)
        parts = []
        for (name, (x, _)), d in zip(seen.items(), gradients, strict=True):
            factors = _factors(checkpoint, of, name, d.shape[-1], x.shape[-1], len(modules))
            parts.append((factors.of_rows(d.float()).transpose(1, 2) @ factors.of_columns(x)).flatten(1))
        seen.clear()
        yield batch.rows.cpu().numpy(), torch.cat(parts, dim=1)


def _all(checkpoint: LiveCheckpoint, tokens: Tokens, of: GradientParts) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Of every trainable parameter, by one backward pass per row; leaves the parameters' own .grad alone."""
    import torch

    from curate.forward import make_batch

    named = [(name, p) for name, p in checkpoint.model.named_parameters() if p.requires_grad]
    for row in np.flatnonzero(tokens.valid):
        batch = make_batch(tokens, [row]).to(checkpoint.device)
        losses = _mean_losses(checkpoint, tokens, batch)
        gradients = torch.autograd.grad(losses[0], [p for _, p in named], materialize_grads=True)
        parts = []
        for (name, _), gradient in zip(named, gradients, strict=True):
            matrix = gradient.reshape(-1, gradient.shape[-1]) if gradient.ndim > 1 else gradient[None]
            factors = _factors(checkpoint, of, name, matrix.shape[0], matrix.shape[1], len(named))
            parts.append(factors.of(matrix).flatten())
        yield np.array([row], np.int64), torch.cat(parts)[None]


def _mean_losses(checkpoint: LiveCheckpoint, tokens: Tokens, batch: Batch) -> torch.Tensor:
    """(b,) float32 mean losses with a graph."""
    import torch

    from curate.forward import batch_losses

    counts = torch.from_numpy(tokens.completion_tokens[batch.rows.cpu().numpy()]).to(checkpoint.device)
    with torch.enable_grad():
        return batch_losses(checkpoint.model, batch) / counts


def _factors(checkpoint: LiveCheckpoint, of: GradientParts, name: str, rows: int, columns: int, parts: int) -> Factors:
    """The projection of one of `parts` matrices (rows, columns), drawn once."""
    from curate.projection import Factors

    key = f"{fingerprint(of)} {name}"
    if key not in checkpoint.kept:
        seed = derive_seed(checkpoint.seed, "projection", name)
        checkpoint.kept[key] = Factors(rows, columns, max(1, of.dimensions // parts), seed, checkpoint.device)
    factors: Factors = checkpoint.kept[key]
    return factors


def _adapter(checkpoint: LiveCheckpoint, of: GradientParts, name: str, inputs: int) -> torch.Tensor:
    """A^T (inputs, rank) of the adapter on one projection, drawn once."""
    from curate.projection import projection

    key = f"{fingerprint(of)} {name} A"
    if key not in checkpoint.kept:
        seed = derive_seed(checkpoint.seed, "adapter", name)
        checkpoint.kept[key] = projection(inputs, of.rank, seed, checkpoint.device)
    factor: torch.Tensor = checkpoint.kept[key]
    return factor


def _attention_projections(model: Any) -> dict[str, Any]:
    """The linear layers inside attention modules, by name."""
    import torch

    found = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D")
        and any("attn" in part or "attention" in part for part in name.split("."))
    }
    if not found:
        raise InputError(
            f"{type(model).__name__} has no linear layers inside modules named attention; choose "
            "parameters='last-layer'"
        )
    return found
