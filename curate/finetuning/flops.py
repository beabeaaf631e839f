"""Floating-point operations of training and the measured peak rate of the device."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.tokenization.tokens import Tokens
from curate.types import IntArray

if TYPE_CHECKING:
    import torch

_TIMED_SHAPES = 6  # distinct shapes of a model's matrices; models rarely have more
_TIMED_ROWS = {"cpu": 512}
_TIMED_ROWS_ELSEWHERE = 8192
_TIMED_SECONDS = 0.3  # per shape


@dataclass(frozen=True)
class FlopCounts:
    """Floating-point operations of one forward and backward pass, without recomputation and optimizer.

    per_token: of the decoder's matrices, for each token. per_completion_token: of the LM head, which runs on
    completion tokens only. per_square: of causal attention, for each row times the square of its length. A frozen
    matrix costs two thirds: its own gradient is not computed.
    """

    per_token: float
    per_completion_token: float
    per_square: float

    def total(self, tokens: Tokens, rows: IntArray) -> float:
        """Operations for these rows of `tokens`; repeated rows count each time.

        Rows count as if each ran alone: a prompt prefix shared by packed rows runs once on a CPU, but counts for each.
        """
        lengths = tokens.lengths[rows].astype(np.float64)  # (rows,)
        completion = tokens.completion_tokens[rows].astype(np.float64)  # (rows,)
        decoder = self.per_token * lengths.sum() + self.per_square * (lengths**2).sum()
        return float(decoder + self.per_completion_token * completion.sum())


def flop_counts(model: Any) -> FlopCounts:
    """Count by the shapes of a causal language model: 6 per weight and token, 6 * layers * width per squared length.

    All experts of a mixture count, so its numbers are too high.
    """
    head = model.get_output_embeddings()
    embeddings = {id(model.get_input_embeddings().weight)}
    own_head = {} if head is None else {id(p): p for p in head.parameters() if p.ndim >= 2}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings | own_head.keys()]
    config = model.config.get_text_config()
    layers = int(getattr(config, "num_hidden_layers", 0))
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    width = heads * int(getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0))
    return FlopCounts(
        per_token=float(sum(_passes(p) * p.numel() for p in matrices)),
        per_completion_token=float(sum(_passes(p) * p.numel() for p in own_head.values())),
        per_square=6.0 * layers * width,
    )


def _passes(parameter: torch.Tensor) -> int:
    """Operations per weight and token: two forward, two for the gradient of the inputs, two for that of the weights."""
    return 6 if parameter.requires_grad else 4


def peak_rate(model: Any, device: torch.device, dtype: torch.dtype) -> float | None:
    """Operations per second at which `device` multiplies matrices of this model's shapes; None if unknown.

    Measured once per process and set of shapes, in a second or two.
    """
    shapes = Counter(tuple(p.shape) for p in model.parameters() if p.ndim == 2 and min(p.shape) >= 64)
    common = tuple(sorted(shapes.items(), key=lambda item: (-item[1] * item[0][0] * item[0][1], item[0])))
    return _measured(common[:_TIMED_SHAPES], str(device), dtype) if common else None


@functools.lru_cache(maxsize=8)
def _measured(shapes: tuple[tuple[tuple[int, ...], int], ...], device: str, dtype: torch.dtype) -> float | None:
    import torch

    place = torch.device(device)
    rows = _TIMED_ROWS.get(place.type, _TIMED_ROWS_ELSEWHERE)
    generator = torch.Generator().manual_seed(0)  # its own, so that the run's random state is unchanged
    operations = seconds = 0.0
    try:
        for (out, width), count in shapes:
            x = torch.randn(rows, width, generator=generator).to(place, dtype)  # (rows, width)
            weight = torch.randn(min(out, 16384), width, generator=generator).to(place, dtype)  # (out, width)
            operations += count * 2.0 * rows * width * len(weight)
            seconds += count * _seconds(x, weight)
    except (RuntimeError, torch.OutOfMemoryError):  # no memory left beside the model, or the device lacks this product
        return None
    return operations / seconds


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    """Minimum time of one product; the timer warms up and synchronizes the device."""
    import torch
    from torch.utils.benchmark import Timer

    names = {"torch": torch, "x": x, "weight": weight}
    timer = Timer("torch.mm(x, weight.t())", globals=names, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=_TIMED_SECONDS).times)
