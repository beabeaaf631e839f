"""Attention over rows packed end to end: each row attends causally to itself only, without padding."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch

VARLEN = "curate_varlen"


def register_varlen() -> None:
    """Enable `model.set_attn_implementation(VARLEN)`; idempotent."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, sdpa_mask)


def varlen_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' calling convention.

    Registered with transformers under `VARLEN`. Without packing arguments it does what "sdpa" does, so a model
    switched to it still takes padded batches, attention masks and caches.

    query: (b, heads, q, d); key and value: (b, kv heads, k, d). With cu_seq_lens_q (rows + 1,) int32, b is 1 and
    row i is positions cu_seq_lens_q[i] .. cu_seq_lens_q[i + 1] - 1; attention_mask is then ignored. Positions
    before cu_seq_lens_q[0] are a prefix that every row begins with. Its attention is computed once per row, which
    keeps attention square; the costly matrix products of the layers are computed once.
    sliding_window: a position sees itself and the sliding_window - 1 before it.
    Returns (b, q, heads, d).
    """
    if cu_seq_lens_q is None:
        if softcap is not None:
            causal = attention_mask is None and query.shape[2] > 1
            mask = _band(query.shape[2], None, query.device) if causal else attention_mask
            return _capped(query, key, value, mask, dropout, scaling, softcap).transpose(1, 2).contiguous(), None
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output: torch.Tensor = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )[0]
        return output, None
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and softcap is None and dropout == 0.0:
        longest = int(max_length_q) if max_length_q is not None else int(cu_seq_lens_q.diff().max())
        return _fused(query, key, value, cu_seq_lens_q, longest, scaling, sliding_window), None
    return _row_by_row(query, key, value, cu_seq_lens_q, dropout, scaling, sliding_window, softcap), None


@torch.compiler.disable  # a loop over rows would be recompiled for every number of rows
def _row_by_row(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """(1, t, heads, d) from one call of the standard kernel per row."""
    prefix, *stops = boundaries.tolist()
    lengths = [high - low for low, high in itertools.pairwise((prefix, *stops))]
    parts: list[torch.Tensor] = []
    for q, k, v in zip(*(_rows(part, prefix, lengths) for part in (query, key, value)), strict=True):
        length = q.shape[2]
        windowed = sliding_window is not None and length > sliding_window
        mask = _band(length, sliding_window, query.device) if windowed or softcap is not None else None
        if softcap is not None:
            part = _capped(q, k, v, mask, dropout, scaling, softcap)
        else:
            part = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=k.shape[1] != q.shape[1]
            )
        parts.append((part[:, :, prefix:] if parts else part).transpose(1, 2))
    return torch.cat(parts, dim=1)


def _rows(part: torch.Tensor, prefix: int, lengths: list[int]) -> Iterator[torch.Tensor]:
    """(1, heads, prefix + length, d) each: the rows with the shared prefix prepended.

    Split, not sliced: the gradient of a slice is as large as all rows together, that of a split just its own.
    """
    shared, *rows = part.split([prefix, *lengths], dim=2)
    for row in rows:
        yield torch.cat([shared, row], dim=2) if prefix else row


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(length, length) bool: the last `window` positions up to and including one's own."""
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return mask if window is None else mask.triu(1 - window)


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float,
) -> torch.Tensor:
    """Attention with soft-capped scores (Gemma 2): (b, heads, q, d). No fused kernel on CPU does this."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.tanh(query @ key.transpose(2, 3) * (scale / softcap)) * softcap  # (b, heads, q, k)
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.nn.functional.dropout(weights, dropout) @ value


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """(1, t, heads, d) from the GPU kernel for packed rows."""
    from torch.nn.attention.varlen import varlen_attn

    prefix = int(boundaries[0])
    lengths = boundaries.diff() + prefix
    if prefix:
        sequence_starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)  # (rows + 1,)
        index = torch.arange(int(sequence_starts[-1]), device=query.device)  # (all rows with their prefixes,)
        row = torch.searchsorted(sequence_starts, index.to(torch.int32), right=True) - 1
        inside = index - sequence_starts[row]
        index = torch.where(inside < prefix, inside, inside + boundaries[row] - prefix)  # (same,) packed places
        own = (inside >= prefix) | (row == 0)
    else:
        sequence_starts, index, own = boundaries, None, None
    groups = query.shape[1] // key.shape[1]
    flat = []
    for part, count in ((query, 1), (key, groups), (value, groups)):
        rows = part[0].transpose(0, 1).repeat_interleave(count, dim=1)
        flat.append(rows.contiguous() if index is None else rows[index])
    longest = longest + prefix
    # torch renamed the causal switch: a window unlimited to the left and empty to the right.
    options: dict[str, Any] = {"is_causal": True}
    if "window_size" in inspect.signature(varlen_attn).parameters:
        back = -1 if sliding_window is None or sliding_window >= longest else sliding_window - 1
        options = {"window_size": (back, 0)}
    elif sliding_window is not None and sliding_window < longest:
        raise RuntimeError("this torch has no packed attention with a sliding window; upgrade torch")
    kernel: Any = varlen_attn
    output: torch.Tensor = kernel(*flat, sequence_starts, sequence_starts, longest, longest, scale=scaling, **options)
    return (output if own is None else output[own])[None]
