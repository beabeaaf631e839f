"""Embed examples as weighted means of hidden states from the forward pass of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from curate.devices import distributed
from curate.devices.memory import on_all_ranks
from curate.errors import InputError
from curate.models.batches import Batch, plan_batches
from curate.models.forward import decoder_states, head_losses, logit_map
from curate.models.modes import preserve_state
from curate.tokenization.tokens import Tokens
from curate.types import IntArray


def embed(hidden: torch.Tensor, batch: Batch, lengths: torch.Tensor) -> torch.Tensor:
    """(b, d) float32 embeddings of the rows of a batch, detached.

    phi(x) = sum_j a_j h_j with a_j = j / sum_j' j' over the last layer's states h_1 .. h_(T-1) of the T tokens of a
    row, prompt included: later tokens have seen more of the row and have larger weights (ADAPT, arXiv 2605.05227). The
    state of the last token predicts nothing, so no forward pass here computes it, and it is left out.

    hidden: (b, T - 1, d), or (1, t, d) packed, as `curate.models.forward.decoder_states` gives them. lengths: (b,)
    tokens of each row. A row of one token has embedding 0.
    """
    hidden = hidden.detach()
    counted = (lengths - 1).clamp_min(0)
    total = (counted * (counted + 1) / 2).clamp_min(1)  # 1 + 2 + ... + (T - 1)
    if batch.cu_seqlens is None:
        place = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)  # (T - 1,)
        shares = torch.where(place <= counted[:, None], place / total[:, None], 0.0)  # (b, T - 1)
        return torch.bmm(shares[:, None].to(hidden.dtype), hidden)[:, 0].float()
    boundaries = batch.cu_seqlens.long()
    prefix, t = int(boundaries[0]), hidden.shape[1]
    row = torch.repeat_interleave(boundaries.diff(), output_size=t - prefix)  # (t - prefix,)
    place = torch.arange(1, t - prefix + 1, device=hidden.device) + 2 * prefix - boundaries[row]
    shares = torch.where(place <= counted[row], place / total[row], 0.0)  # (t - prefix,)
    own = torch.zeros(len(lengths), hidden.shape[2], device=hidden.device)  # (b, d)
    own.index_add_(0, row, hidden[0, prefix:].float() * shares[:, None])
    common = torch.arange(1, prefix + 1, device=hidden.device, dtype=torch.float32) @ hidden[0, :prefix].float()
    return own + common / total[:, None]


def embedded_losses(model: Any, batch: Batch, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(b,) summed losses as `curate.models.forward.batch_losses`, and (b, d) embeddings, from one forward pass.

    Raises InputError for a model that cannot be run up to its hidden states.
    """
    check_embeddable(model)
    hidden = decoder_states(model, batch)
    return head_losses(model, batch, hidden), embed(hidden, batch, lengths)


def embeddings_of(
    model: Any,
    tokens: Tokens,
    *,
    device: torch.device,
    half: bool,
    budget: int,
    make_batch: Callable[[Tokens, IntArray], Batch],
) -> torch.Tensor:
    """(n, d) float32 embeddings of the rows of `tokens`, in eval mode, on `device`.

    Ranks share out the rows; all of them must call it. half: in bfloat16 autocast. budget: most tokens of a batch.
    Raises InputError as `embedded_losses`.
    """
    check_embeddable(model)
    rows = np.arange(distributed.rank(), len(tokens), distributed.world_size())  # (rows of this rank,)
    lengths = torch.from_numpy(tokens.lengths).to(device)  # (n,)
    embeddings = torch.zeros(len(tokens), model.get_output_embeddings().in_features, device=device)  # (n, d)

    def embed_rows() -> None:  # runs on every rank, on the rank's own rows
        for part in plan_batches(tokens.lengths[rows], budget) if len(rows) else []:
            batch = make_batch(tokens, rows[part]).to(device)
            embeddings[batch.rows] = embed(decoder_states(model, batch), batch, lengths[batch.rows])

    with preserve_state(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        model.eval()
        on_all_ranks(embed_rows, device)
    return distributed.sum_(embeddings)


def check_embeddable(model: Any) -> None:
    """Raise InputError for a model that cannot be run up to its hidden states."""
    if logit_map(model) is None:
        raise InputError(
            f"{type(model).__name__} cannot be run up to its hidden states (its LM head is not a plain linear layer); "
            "choose a reweighter that looks at losses, or ADAPT(similarity='bm25')"
        )
