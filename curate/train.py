"""THE training loop: proxy runs, fine-tuning and reweighting are compared with each other, so they share it.

`train` is a generator of checkpoints: what happens at a checkpoint is the body of the caller's loop. Every
optimizer step draws its rows from (seed, epoch) and its randomness from (seed, step, rank), so the only state
of a run is weights and optimizer moments: any step can be replayed, and measuring cannot change what follows.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from pydantic import Field, model_validator

from curate import distributed
from curate.batches import RowOrder, micro_batches
from curate.checkpoint import Checkpoint, lent, load_checkpoint, restored
from curate.component import Component
from curate.errors import InputError
from curate.forward import allow_packing, batch_losses, logit_map, make_batch, pack_batch
from curate.optimizers import AdamW, SteppedOptimizer
from curate.protocols import Ints, Reweighter
from curate.scoring import plan_packs, resolve_precision
from curate.seeds import derive_seed
from curate.tokens import Tokens

__all__ = ["DivergenceError", "TrainConfig", "learning_rate_factor", "train"]

# What one more forward and backward pass costs, in tokens that take as long. A GPU waits for kernel launches
# as long as for thousands of tokens, so there batches are split for memory only; a CPU should rather not pad.
_PASS_COST = {"cpu": 32}
_PASS_COST_ELSEWHERE = 8192
_MICRO_BATCH_TOKENS = {"cpu": 4096}
_MICRO_BATCH_TOKENS_ELSEWHERE = 16384  # a default batch of rows of 512 tokens in one pass


class DivergenceError(InputError):
    """A loss or gradient stopped being finite.

    step: optimizer steps done before. rows: positions in `tokens` of the rows whose loss is not finite, or of
    the whole optimizer batch where only its gradient is not.
    """

    def __init__(self, message: str, step: int = 0, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.rows = list(rows)


class TrainConfig(Component):
    """How a model is trained.

    steps: optimizer steps after which training stops.
    horizon_steps: steps the learning-rate schedule spans, at least `steps`; None = `steps`. A run that stops
        early inside a long schedule keeps a nearly constant rate.
    batch_size: rows per optimizer step, all ranks together.
    learning_rate: peak. warmup_ratio: share of the horizon over which the rate rises linearly from zero.
    max_grad_norm: a gradient of larger L2 norm is scaled down to it; None = never.
    optimizer: see `curate.optimizers`.
    precision: bfloat16 is autocast over float32 weights; auto takes it where the hardware multiplies it fast.
    micro_batch_tokens: most tokens, padding included, that go through the model at once; None = 4096 on a CPU,
        16384 elsewhere. Bounds memory and changes no result beyond rounding (with dropout: beyond which
        activations are dropped).
    gradient_checkpointing: recompute activations in the backward pass; less memory, about a third slower.
    """

    steps: int = Field(ge=1)
    horizon_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    optimizer: Any = Field(default_factory=AdamW)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    gradient_checkpointing: bool = False
    seed: int = 0

    @model_validator(mode="after")
    def _horizon_spans_steps(self) -> TrainConfig:
        if self.horizon_steps is not None and self.horizon_steps < self.steps:
            raise ValueError(f"horizon_steps={self.horizon_steps} ends before steps={self.steps}; raise it")
        return self


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Learning rate of the update that follows `step` updates, as a fraction of the peak.

    The convention of transformers' schedules: zero at step 0, the peak after ceil(warmup_ratio * horizon)
    steps, then half a cosine, or a line, down to zero at the horizon.
    """
    horizon = config.horizon_steps or config.steps
    warmup = math.ceil(config.warmup_ratio * horizon)
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, horizon - warmup)
    if config.schedule == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return max(0.0, 1.0 - progress) if config.schedule == "linear" else 1.0


def train(
    model: Any,
    tokens: Tokens,
    config: TrainConfig,
    *,
    checkpoint_steps: Sequence[int],
    reweighter: Reweighter | None = None,
    resume: Path | None = None,
    device: torch.device | str | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Checkpoint]:
    """Train `model` in place on the valid rows of `tokens`, pausing at each of `checkpoint_steps` (0: before).

    A checkpoint is lent for the caller's loop body: the model is in eval mode; afterwards modes,
    requires_grad, cudnn flags and all random states are put back, and the weights must be as before, else
    InputError. Exhausting the iterator completes `config.steps` and gives back the caller's own modes and
    random states.

    The model becomes float32 first, on `device` (None = where it is). The loss of an optimizer batch is
    sum_i w_i n_i l_i / sum_i n_i over its rows of n_i completion tokens and l_i nats per token; w_i is 1, or
    from `reweighter`, which is asked once a step, at the weights before the step. Under torchrun every rank
    makes this call with the same arguments; rank 0's weights count.

    resume: folder written by `Checkpoint.save`; the run goes on from there bit for bit (same hardware and
        number of ranks). Earlier checkpoints are not visited again, the one at its own step is.
    advance: called with 1 after every step.

    Raises InputError where nothing can be trained, DivergenceError when a loss or gradient is not finite; the
    weights are then those before the step.
    """
    distributed.start()
    device = next(model.parameters()).device if device is None else torch.device(device)
    model.to(device).float()
    wanted = {int(step) for step in checkpoint_steps}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    _check(tokens, config, named, wanted)
    distributed.broadcast_([*model.parameters(), *model.buffers()])
    optimizer: SteppedOptimizer = config.optimizer.build(
        named, learning_rate=config.learning_rate, weight_decay=config.weight_decay
    )
    start = Checkpoint(0, model, [], 0, 0.0, optimizer, config, tokens)
    if resume is not None:
        start = load_checkpoint(resume, start)
    losses, tokens_seen, seconds = list(start.losses), start.tokens_seen, start.seconds

    with (
        restored(model),
        _gradient_checkpointing(model, config.gradient_checkpointing),
        _packing(model, device) as packed,
    ):
        gradient = _Gradient(model, tokens, config, reweighter, device, packed)
        model.train()
        for step in range(start.step, config.steps + 1):
            if step in wanted:
                with lent(model, step):
                    yield Checkpoint(step, model, losses[:], tokens_seen, seconds, optimizer, config, tokens)
            if step == config.steps:
                break
            began = time.perf_counter()
            factor = learning_rate_factor(config, step)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            gradient.begin(step)
            optimizer.step(gradient)
            losses.append(gradient.loss)
            tokens_seen += gradient.tokens_seen
            seconds += time.perf_counter() - began
            if advance is not None:
                advance(1)


class _Gradient:
    """The closure of the optimizer: leaves the gradient of one whole optimizer batch in the parameters.

    Called twice in a step (SAM), it evaluates the same function twice: same rows, same dropout draws, same
    weights of the rows.
    """

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        config: TrainConfig,
        reweighter: Reweighter | None,
        device: torch.device,
        packed: bool,
    ) -> None:
        self.model, self.tokens, self.config, self.device = model, tokens, config, device
        self.packed = packed
        self.reweighter = reweighter
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        logit_map(model)  # worked out now, outside the random draws of a step
        self.order = RowOrder(np.flatnonzero(tokens.valid), config.batch_size, config.seed)
        self.lengths, self.counts = tokens.lengths, tokens.completion_tokens.astype(np.int64)
        self.half = resolve_precision(config.precision, device) == torch.bfloat16
        default = _MICRO_BATCH_TOKENS.get(device.type, _MICRO_BATCH_TOKENS_ELSEWHERE)
        self.budget = config.micro_batch_tokens or default
        self.pass_cost = _PASS_COST.get(device.type, _PASS_COST_ELSEWHERE)

    def begin(self, step: int) -> None:
        """Turn to the update that follows `step` updates."""
        self.step = step
        self.rows = self.order.batch(step)
        self.batch_tokens = int(self.counts[self.rows].sum())
        lengths = self.lengths[self.rows]
        self.tokens_seen = int(lengths.sum())
        # Dealt out by length, so that ranks wait little for each other.
        mine = np.argsort(lengths, kind="stable")[distributed.rank() :: distributed.world_size()]
        if self.packed:
            split = list(plan_packs(lengths[mine], self.budget))
        else:
            split = micro_batches(lengths[mine], self.budget, self.pass_cost)
        self.parts = [(self.rows[mine[part]], torch.from_numpy(mine[part]).to(self.device)) for part in split]
        self.weights: torch.Tensor | None = None
        self.loss = math.nan

    def __call__(self) -> float:
        """Mean loss of the batch in nats per token, unweighted; the same on all ranks."""
        for parameter in self.parameters:
            parameter.grad = None
        # One pass can be weighed between forward and backward; several need all losses before any backward.
        if self.reweighter is not None and self.weights is None and len(self.parts) != 1:
            self._weigh(self._losses_only())
        losses = torch.zeros(len(self.rows), device=self.device)
        self._seed()
        with torch.enable_grad(), self._autocast():
            for rows, index in self.parts:
                sums = self._sums(rows)
                losses[index] = sums.detach()
                if self.reweighter is not None and self.weights is None:
                    self._weigh(losses.clone())
                if self.weights is not None:
                    sums = sums * self.weights[index]
                # Nested, so that the weights already cast to bfloat16 serve the next micro-batch too.
                with torch.autocast(self.device.type, enabled=False):
                    (sums.sum() / self.batch_tokens).backward()
        distributed.sum_(losses)
        distributed.sum_gradients_(self.parameters)
        loss = self._clip(losses)
        if math.isnan(self.loss):
            self.loss = loss
        return loss

    def _clip(self, losses: torch.Tensor) -> float:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The one moment of a step when the device is waited for.
        loss, size = torch.stack([losses.sum() / self.batch_tokens, norm]).tolist()
        if not (math.isfinite(loss) and math.isfinite(size)):
            self._diverged(losses)
        limit = self.config.max_grad_norm
        if limit is not None and size > limit:
            torch._foreach_mul_(gradients, limit / (size + 1e-6))
        return float(loss)

    def _sums(self, rows: Ints) -> torch.Tensor:
        batch = (pack_batch if self.packed else make_batch)(self.tokens, rows)
        return batch_losses(self.model, batch.to(self.device))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _losses_only(self) -> torch.Tensor:
        """(b,) summed losses under the random draws of the pass to come; 0 for rows of other ranks."""
        losses = torch.zeros(len(self.rows), device=self.device)
        self._seed()
        with torch.no_grad(), self._autocast():
            for rows, index in self.parts:
                losses[index] = self._sums(rows)
        # Weights cast without a gradient must not serve the pass that needs one (under a caller's own autocast).
        torch.clear_autocast_cache()
        return losses

    def _weigh(self, sums: torch.Tensor) -> None:
        """Ask the reweighter about the optimizer batch, given (b,) summed losses of this rank's rows."""
        assert self.reweighter is not None
        counts = torch.from_numpy(self.counts[self.rows]).to(self.device)
        losses = distributed.sum_(sums) / counts
        if not bool(losses.isfinite().all()):
            self._diverged(losses)
        weights = self.reweighter.weights(losses, counts, self.step).detach().to(losses)
        if weights.shape != losses.shape or not bool(weights.isfinite().all()):
            raise InputError(
                f"{type(self.reweighter).__qualname__}.weights returned shape {tuple(weights.shape)} or values "
                f"that are not finite after {self.step} steps; return ({len(losses)},) finite weights"
            )
        self.weights = weights

    def _seed(self) -> None:
        torch.manual_seed(derive_seed(self.config.seed, "step", self.step, distributed.rank()))

    def _diverged(self, losses: torch.Tensor) -> NoReturn:
        bad = self.rows[(~losses.isfinite()).cpu().numpy()].tolist()
        rows = bad or self.rows.tolist()
        what = f"the loss of {len(bad)} of {len(self.rows)} rows" if bad else "the gradient"
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise DivergenceError(
            f"{what} is not finite after {self.step} optimizer steps (row positions {shown}); lower "
            f"learning_rate (peak {self.config.learning_rate:g}) or look at these rows",
            self.step,
            rows,
        )


def _check(tokens: Tokens, config: TrainConfig, named: Sequence[Any], wanted: set[int]) -> None:
    if not tokens.valid.any():
        raise InputError("no row has completion text to train on; raise max_length or check the columns")
    if not named:
        raise InputError("no parameter of the model requires a gradient; unfreeze some before training")
    for step in sorted(wanted):
        if not 0 <= step <= config.steps:
            raise InputError(f"checkpoint step {step} is outside 0..{config.steps}; leave it out or raise steps")


@contextlib.contextmanager
def _gradient_checkpointing(model: Any, wanted: bool) -> Iterator[None]:
    if not wanted or any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        yield
        return
    # Newer releases of transformers say "activation", older ones know "gradient" only.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    enable()
    try:
        yield
    finally:
        disable()


@contextlib.contextmanager
def _packing(model: Any, device: torch.device) -> Iterator[bool]:
    """Let the model take rows end to end, without padding, for the while; yields whether it does.

    On a CPU only: on a GPU packed attention has kernels for half precision alone. And without dropout only: a
    prompt prefix that packed rows share would share its draws.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    packed = device.type == "cpu" and not _drops_out(model) and allow_packing(model)
    try:
        yield packed
    finally:
        if config._attn_implementation != before:
            model.set_attn_implementation(before)


def _drops_out(model: Any) -> bool:
    """Whether any part of the model draws at random in training mode."""
    layers = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    settings = model.config.get_text_config().to_dict()
    return layers or any("drop" in name and isinstance(value, float) and value > 0 for name, value in settings.items())
