"""Scoring: the mean loss of every row under a model, fast.

An engine scores with a twin of the model, which shares its tensors (float32) or holds a bfloat16 copy of them,
so that evaluation mode, compilation and packing never touch the model being trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from curate.errors import InputError
from curate.forward import allow_packing, batch_losses, logit_map, make_batch, pack_batch
from curate.protocols import Floats, Ints
from curate.tokens import Tokens

__all__ = ["LossEngine", "plan_batches", "resolve_precision", "score_losses"]

Precision = Literal["auto", "float32", "bfloat16"]
Layout = Literal["padded", "packed"]

CPU_TOKENS = 2048
GPU_TOKENS = 32768


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype to score in; "auto" is bfloat16 exactly where the hardware multiplies bfloat16 matrices fast."""
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if precision != "auto":
        raise InputError(f'precision is "{precision}"; use "auto", "float32" or "bfloat16"')
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has AMX tiles or AVX-512 with bfloat16 dot products."""
    predicates = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in predicates)


def plan_batches(lengths: Ints, token_budget: int) -> Iterator[Ints]:
    """Row positions, longest rows first, in batches of at most `token_budget` padded tokens (or one row)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, token_budget // max(int(lengths[order[start]]), 1))
        yield order[start : start + rows]
        start += rows


def pk(tokens, rows, budget):
    from curate.forward import shared_prefix
    p=shared_prefix(tokens, rows); L=tokens.lengths[rows]-p
    out=[];cost=p
    for i,l in enumerate(L):
        if out and cost+l>budget: yield np.array(out); out=[];cost=p
        out.append(i); cost+=l
    yield np.array(out)


class LossEngine:
    """Scores rows under the current weights of `model`, which may go on training between `refresh` calls."""

    def __init__(
        self,
        model: Any,
        *,
        precision: Precision = "auto",
        token_budget: int | None = None,
        layout: Layout = "padded",
        device: torch.device | str | None = None,
    ) -> None:
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.dtype = resolve_precision(precision, self.device)
        self.token_budget = token_budget or (GPU_TOKENS if self.device.type == "cuda" else CPU_TOKENS)
        self._twin, self._copied = _make_twin(model, self.dtype, self.device)
        self.layout = layout
        if layout == "packed":
            assert allow_packing(self._twin)

    def refresh(self) -> None:
        with torch.no_grad():
            for source, target in self._copied:
                target.copy_(source)

    def losses(self, tokens: Tokens) -> Floats:
        result = np.full(len(tokens), np.nan, np.float32)
        rows = np.flatnonzero(tokens.valid)
        counts = tokens.completion_tokens
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for chosen in plan_batches(tokens.lengths[rows], self.token_budget) if self.layout=='padded' else pk(tokens, rows, self.token_budget):
                batch = (
                    make_batch(tokens, rows[chosen]) if self.layout == "padded" else pack_batch(tokens, rows[chosen])
                )
                sums = batch_losses(self._twin, batch.to(self.device))
                result[rows[chosen]] = sums.cpu().numpy() / counts[rows[chosen]]
        return result


def _make_twin(
    model: Any, dtype: torch.dtype, device: torch.device
) -> tuple[Any, list[tuple[torch.Tensor, torch.Tensor]]]:
    memo: dict[int, Any] = {}
    copied = []
    for parameter in model.parameters():
        target = dtype if parameter.is_floating_point() else parameter.dtype
        if parameter.dtype == target and parameter.device == device:
            memo[id(parameter)] = parameter
            continue
        converted = torch.nn.Parameter(parameter.detach().to(device, target), requires_grad=False)
        memo[id(parameter)] = converted
        copied.append((parameter, converted))
    for buffer in model.buffers():
        moved = buffer.to(device)
        memo[id(buffer)] = moved
        if moved is not buffer:
            copied.append((buffer, moved))
    twin = copy.deepcopy(model, memo)
    return twin.eval(), copied


def score_losses(model: Any, tokens: Tokens, **options: Any) -> Floats:
    return LossEngine(model, **options).losses(tokens)
