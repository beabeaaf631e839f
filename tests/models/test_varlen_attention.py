"""Attention over packed rows is masked attention over each row alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from curate.models.varlen_attention import varlen_attention

HEADS, GROUPS, WIDTH = 4, 2, 8


def heads(count: int, length: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, length, WIDTH, generator=generator).requires_grad_()


def oracle(query: Any, key: Any, value: Any, scale: float, window: int | None, softcap: float | None) -> torch.Tensor:
    """(1, t, heads, d) of one row, by explicit scores."""
    key, value = (part.repeat_interleave(GROUPS, dim=1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    place = torch.arange(scores.shape[-1])
    distance = place[:, None] - place
    seen = (distance >= 0) & (distance < (window or len(place)))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("prefix", [0, 5])
def test_packed_rows_attend_to_the_prefix_and_to_themselves(
    prefix: int, window: int | None, softcap: float | None
) -> None:
    boundaries = prefix + torch.tensor([0, 4, 5, 12], dtype=torch.int32)
    total = int(boundaries[-1])
    query, key, value = heads(HEADS, total, 0), heads(HEADS // GROUPS, total, 1), heads(HEADS // GROUPS, total, 2)
    found, _ = varlen_attention(
        None, query, key, value, None, scaling=0.3, sliding_window=window, softcap=softcap, cu_seq_lens_q=boundaries
    )
    parts = []
    for low, high in zip(boundaries[:-1].tolist(), boundaries[1:].tolist(), strict=True):
        index = [*range(prefix), *range(low, high)]
        row = oracle(query[:, :, index], key[:, :, index], value[:, :, index], 0.3, window, softcap)
        parts.append(row[:, prefix:] if parts else row)
    expected = torch.cat(parts, dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.linspace(-1, 1, found.numel()).view_as(found)
    leaves = [query, key, value]
    for ours, theirs in zip(
        torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_without_boundaries_it_is_ordinary_causal_attention(softcap: float | None) -> None:
    class Module:
        num_key_value_groups = GROUPS
        is_causal = True

    query, key, value = heads(HEADS, 9, 0), heads(HEADS // GROUPS, 9, 1), heads(HEADS // GROUPS, 9, 2)
    found, _ = varlen_attention(Module(), query, key, value, None, scaling=0.3, softcap=softcap)
    torch.testing.assert_close(found, oracle(query, key, value, 0.3, None, softcap), rtol=1e-5, atol=1e-5)
