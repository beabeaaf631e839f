"""Score rows by their mean loss under a model."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from curate.devices.precision import Precision, default_token_budget, resolve_precision
from curate.errors import InputError
from curate.models.batches import make_batch, pack_batch, plan_batches, plan_packs, shared_prefix
from curate.models.forward import allow_packing, batch_losses, logit_map
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray, IntArray

BatchLayout = Literal["auto", "padded", "packed"]

# Floating-point operations from which compiling pays: it takes one to two minutes and saves some 8 % in float32 on
# a CPU, where matrix products dominate, and more where they are fast.
COMPILE_ON_CPU = 1e15
COMPILE_ON_GPU = 1e17
WARM_UP = ((3, 37), (1, 41))  # (rows, tokens) of the batches that fix the compiled shapes


class LossEngine:
    """Scores rows with the weights of `model`, which may be trained further between calls of `refresh`.

    An engine scores with a twin of the model, which shares its tensors (float32) or holds a bfloat16 copy of them,
    so that evaluation mode, packing and compilation never touch the model being trained. Batches are composed
    inside the Tokens given, and the arithmetic of a batch depends on that batch alone.

    precision: "auto", "float32" or "bfloat16"; `dtype` is the one in use.
    token_budget: tokens per batch, padding included.
    layout: "packed" puts rows end to end and runs a prompt prefix they share once; "padded" sorts rows by length
        and pads. "auto" packs where the model allows it; the attribute is the one in use.
    compile: compile the decoder layers; "auto" does so if the `expected_tokens` of all calls (all rows times all
        checkpoints, whatever a cache may hold of them) repay it.
    float32_below: rows with fewer completion tokens are scored in float32 even where the precision is bfloat16,
        whose rounding errors so few tokens do not average out. 0 to never do so.
    notes: requests that could not be met, one line each.
    """

    def __init__(
        self,
        model: Any,
        *,
        precision: Precision = "auto",
        token_budget: int | None = None,
        layout: BatchLayout = "auto",
        compile: Literal["auto"] | bool = "auto",
        expected_tokens: int = 0,
        float32_below: int = 8,
        device: torch.device | str | None = None,
    ) -> None:
        if layout not in ("auto", "padded", "packed"):
            raise InputError(f'layout is "{layout}"; use "auto", "padded" or "packed"')
        if token_budget is not None and token_budget < 1:
            raise InputError(f"token_budget is {token_budget}; use at least 1")
        self.device = torch.device(device) if device is not None else next(model.parameters()).device
        self.dtype = resolve_precision(precision, self.device)
        self.token_budget = token_budget or default_token_budget(self.device)
        self.notes: tuple[str, ...] = ()
        self._model, self._float32_below = model, float32_below
        self._exact: LossEngine | None = None
        self._twin, self._copied = _make_twin(model, self.dtype, self.device)
        with torch.inference_mode():
            logit_map(self._twin)
            self.layout = self._choose_layout(layout)
        self.compiled = False
        if compile is True or (compile == "auto" and self._compiling_pays(expected_tokens)):
            self._compile()

    def refresh(self) -> None:
        """Copy the model's current weights. In float32 on one device they are shared anyway."""
        with torch.no_grad():
            for source, target in self._copied:
                target.copy_(source)
        if self._exact is not None:
            self._exact.refresh()

    def losses(self, tokens: Tokens) -> FloatArray:
        """(n,) float32 mean loss per completion token in nats; NaN exactly where `tokens.valid` is False.

        Provided the weights are sane: a valid row whose loss is not finite is returned as it is, for the caller
        to report. Raises InputError for a valid row without a supervised token.
        """
        counts = tokens.completion_tokens
        empty = tokens.valid & (counts == 0)
        if empty.any():
            raise InputError(
                f"row {int(empty.argmax())} is valid but has no supervised token; mark it invalid or drop it"
            )
        result = np.full(len(tokens), np.nan, np.float32)  # (n,)
        rows = np.flatnonzero(tokens.valid)  # (valid rows,)
        if self.dtype != torch.float32:
            short = counts[rows] < self._float32_below
            if short.any():
                exact = rows[short]
                result[exact] = self._float32_engine().losses(tokens.take(exact))
                rows = rows[~short]
        with self._numerics():
            # Read back at the end, so that no batch waits for the GPU.
            done = [(chosen, self._sums(tokens, chosen)) for chosen in self._plan(tokens, rows)]
            for chosen, sums in done:
                result[chosen] = sums.cpu().numpy() / counts[chosen]
        return result

    def _plan(self, tokens: Tokens, rows: IntArray) -> Iterator[IntArray]:
        lengths = tokens.lengths[rows]
        if self.layout == "padded":
            return (rows[part] for part in plan_batches(lengths, self.token_budget))
        prefix = shared_prefix(tokens, rows) if len(rows) > 1 else 0
        return (rows[part] for part in plan_packs(lengths, self.token_budget, prefix))

    def _sums(self, tokens: Tokens, rows: IntArray) -> torch.Tensor:
        batch = make_batch(tokens, rows) if self.layout == "padded" else pack_batch(tokens, rows)
        return batch_losses(self._twin, batch.to(self.device))

    def _choose_layout(self, layout: BatchLayout) -> Literal["padded", "packed"]:
        # GPUs have a kernel for packed attention in half precision only.
        wants_packed = layout == "packed" or (
            layout == "auto" and (self.device.type == "cpu" or self.dtype == torch.bfloat16)
        )
        if not wants_packed:
            return "padded"
        if allow_packing(self._twin):
            return "packed"
        if layout == "packed":
            self.notes += (f"{type(self._model).__name__} does not take packed rows; rows are padded",)
        return "padded"

    def _float32_engine(self) -> LossEngine:
        if self._exact is None:
            self._exact = LossEngine(self._model, precision="float32", device=self.device, compile=False)
        return self._exact

    def _compiling_pays(self, expected_tokens: int) -> bool:
        """By rule of thumb, not by timing, so that a resumed run decides as before."""
        if self.device.type == "cpu" and shutil.which("g++") is None:
            return False
        operations = 2 * sum(parameter.numel() for parameter in self._twin.parameters()) * expected_tokens
        return operations > (COMPILE_ON_GPU if self.device.type == "cuda" else COMPILE_ON_CPU)

    def _compile(self) -> None:
        """Compile the decoder layers with shared code; on failure they stay uncompiled, with a note."""
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError
        from transformers.modeling_layers import GradientCheckpointingLayer

        eager = self._twin
        self._twin, _ = _make_twin(eager, self.dtype, self.device)
        layers = [module for module in self._twin.modules() if isinstance(module, GradientCheckpointingLayer)]
        for layer in layers:
            layer.compile(dynamic=True)
        try:
            # Shapes are fixed here, not by the first rows: the compiled code must not depend on the data.
            self.compiled = bool(layers)
            with self._numerics():
                for rows, width in WARM_UP:
                    self._sums(*_warm_up_rows(self._twin, rows, width))
        except (TorchDynamoException, InductorError) as error:
            self._twin, self.compiled = eager, False
            reason = str(error).strip().splitlines()[0]
            self.notes += (f"decoder layers are not compiled ({type(error).__name__}: {reason})",)

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        """Context of all scoring: no gradients, no autocast, and room for compiled variants."""
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            if not self.compiled:
                yield
                return
            # The limit is per process and class of layer: at the default of 8, the third model of a family would
            # silently run uncompiled.
            with torch._dynamo.config.patch(recompile_limit=512, accumulated_recompile_limit=4096):
                yield


def _warm_up_rows(model: Any, rows: int, width: int) -> tuple[Tokens, IntArray]:
    """Rows of different tokens and equal length that share no prefix."""
    ids = np.arange(rows * width, dtype=np.int32) % model.get_input_embeddings().weight.shape[0]
    supervised = np.tile(np.arange(width) > 0, rows)
    offsets = np.arange(rows + 1, dtype=np.int64) * width
    return Tokens(ids, supervised, offsets, np.ones(rows, bool), *np.zeros((2, rows), np.int32)), np.arange(rows)


def _make_twin(
    model: Any, dtype: torch.dtype, device: torch.device
) -> tuple[Any, list[tuple[torch.Tensor, torch.Tensor]]]:
    """A copy of the model in eval mode, which shares the tensors that already have the wanted dtype and device.

    Returns it and the (original, copy) pairs of the other tensors. Buffers keep their dtype: rotary frequencies
    rounded to bfloat16 put far-away positions in the wrong place.
    """
    memo: dict[int, Any] = {}
    copied: list[tuple[torch.Tensor, torch.Tensor]] = []
    for parameter in model.parameters():
        target = dtype if parameter.is_floating_point() else parameter.dtype
        twin_of = parameter
        if parameter.dtype != target or parameter.device != device:
            twin_of = torch.nn.Parameter(parameter.detach().to(device, target), requires_grad=False)
            copied.append((parameter, twin_of))
        memo[id(parameter)] = twin_of
    for buffer in model.buffers():
        moved = buffer.to(device)
        if moved is not buffer:
            copied.append((buffer, moved))
        memo[id(buffer)] = moved
    return copy.deepcopy(model, memo).eval(), copied


def score_losses(model: Any, tokens: Tokens, **options: Any) -> FloatArray:
    """(n,) float32 mean loss per completion token in nats. options: of `LossEngine`, which scores more than once."""
    return LossEngine(model, expected_tokens=len(tokens.ids), **options).losses(tokens)
