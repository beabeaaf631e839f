"""Build batches from the rows of a dataset, padded or packed end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from curate.errors import InputError
from curate.tokenization.tokens import Tokens
from curate.types import IntArray

SHORTEST_PREFIX = 8  # a shorter prefix saves less than reassembling rows in attention costs


LONGEST_PREFIX = 1 << 16


@dataclass(frozen=True)
class Batch:
    """b rows, either padded on the right or packed end to end.

    input_ids: (b, T) int64, or (1, t) packed. The padding id is arbitrary: causal attention never sees it.
    labels: like input_ids; the token itself where it is supervised, -100 elsewhere.
    rows: (b,) int64 positions of the rows in the Tokens they come from.
    cu_seqlens: (b + 1,) int32 where packed: row i is input_ids[0, : cu_seqlens[0]], a prefix that all rows share,
        followed by input_ids[0, cu_seqlens[i] : cu_seqlens[i + 1]].
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    cu_seqlens: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        tensors = {name: tensor for name, tensor in vars(self).items() if tensor is not None}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def make_batch(tokens: Tokens, rows: npt.ArrayLike, pad_to: int | None = None) -> Batch:
    """The rows at positions `rows` of `tokens` as one padded batch, of width `pad_to` or that of the longest row."""
    positions = np.array(rows, np.int64)  # (b,)
    lengths = tokens.lengths[positions]
    longest = int(lengths.max(initial=1))
    if pad_to is not None and pad_to < longest:
        raise InputError(f"pad_to is {pad_to} but a row has {longest} tokens; pad to at least that")
    column = np.arange(longest if pad_to is None else pad_to)
    real = column < lengths[:, None]  # (b, T)
    index = np.where(real, tokens.offsets[positions][:, None] + column, 0)  # (b, T) into tokens.ids
    ids = np.where(real, tokens.ids[index], 0).astype(np.int64)
    labels = np.where(real & tokens.supervised[index], ids, -100)
    return Batch(torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(positions))


def pack_batch(tokens: Tokens, rows: npt.ArrayLike) -> Batch:
    """The rows at positions `rows` of `tokens`, packed end to end. Only for models that `allow_packing` has accepted.

    A prompt prefix that all of them share (a template, a system message) is stored once, at the front.
    """
    positions = np.array(rows, np.int64)  # (b,)
    prefix = shared_prefix(tokens, positions) if len(positions) > 1 else 0
    starts = tokens.offsets[positions] + prefix
    lengths = tokens.lengths[positions] - prefix
    boundaries = prefix + np.concatenate([[0], np.cumsum(lengths)])  # (b + 1,)
    index = np.repeat(starts - boundaries[:-1], lengths) + np.arange(prefix, boundaries[-1])
    index = np.concatenate([tokens.offsets[positions[:1]].repeat(prefix) + np.arange(prefix), index])
    ids = tokens.ids[index].astype(np.int64)  # (t,)
    labels = np.where(tokens.supervised[index], ids, -100)
    return Batch(
        torch.from_numpy(ids)[None],
        torch.from_numpy(labels)[None],
        torch.from_numpy(positions),
        torch.from_numpy(boundaries.astype(np.int32)),
    )


def shared_prefix(tokens: Tokens, rows: IntArray) -> int:
    """Number of leading tokens that all rows share, excluding the token that predicts the first
    supervised one; 0 if there are too few to matter.
    """
    supervised = np.concatenate([[0], np.cumsum(tokens.supervised)])
    starts, stops = tokens.offsets[rows], tokens.offsets[rows + 1]
    # The running count first exceeds its value at the row's start just after the row's first supervised token.
    first = np.minimum(np.searchsorted(supervised, supervised[starts], side="right") - 1, stops)
    limit = int((first - starts).min(initial=LONGEST_PREFIX)) - 1
    if limit < SHORTEST_PREFIX:
        return 0
    column = np.arange(limit)
    same = (tokens.ids[starts[:, None] + column] == tokens.ids[starts[0] + column]).all(axis=0)
    prefix = limit if same.all() else int(same.argmin())
    return prefix if prefix >= SHORTEST_PREFIX else 0


def plan_batches(lengths: IntArray, token_budget: int) -> Iterator[IntArray]:
    """Row positions, longest rows first, in batches of at most `token_budget` padded tokens (or one row)."""
    order = np.argsort(-lengths, kind="stable")  # (rows,)
    start = 0
    while start < len(order):
        rows = max(1, token_budget // max(int(lengths[order[start]]), 1))
        yield order[start : start + rows]
        start += rows


def plan_packs(lengths: IntArray, token_budget: int, prefix: int = 0) -> Iterator[IntArray]:
    """Row positions in order, in batches of at most `token_budget` tokens (or one row), counting `prefix` once."""
    start, used = 0, prefix
    for row, length in enumerate((lengths - prefix).tolist()):
        if row > start and used + length > token_budget:
            yield np.arange(start, row)
            start, used = row, prefix
        used += length
    if start < len(lengths):
        yield np.arange(start, len(lengths))
