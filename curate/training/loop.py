"""THE training loop: proxy runs, fine-tuning and reweighting are compared with each other, so they share it.

`train` is a generator of checkpoints: what happens at a checkpoint is the body of the caller's loop. Every
optimizer step draws its rows from (seed, epoch) and its randomness from (seed, step, rank), so the only state
of a run is weights and optimizer moments: any step can be replayed, and measuring cannot change what follows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from curate.devices import distributed
from curate.errors import DivergenceError, InputError
from curate.models.forward import allow_packing
from curate.models.modes import draws_at_random, lent, restored
from curate.optimizers import SteppedOptimizer
from curate.tokenization.tokens import Tokens
from curate.training.checkpoint import Checkpoint, load_checkpoint
from curate.training.config import StepRecord, TrainConfig, learning_rate_factor
from curate.training.fsdp import GatheredOptimizer, shard_, sharded_losses, whole
from curate.training.reweighting import NO_ROWS, TrainingRows
from curate.training.step import Gradient

__all__ = ["train"]


def train(
    model: Any,
    tokens: Tokens,
    config: TrainConfig,
    *,
    checkpoint_steps: Sequence[int] | Callable[[int], bool],
    reweighter: Any = None,
    rows: TrainingRows = NO_ROWS,
    resume: Path | None = None,
    device: torch.device | str | None = None,
    advance: Callable[[int], None] | None = None,
    log: Callable[[StepRecord], None] | None = None,
) -> Iterator[Checkpoint]:
    """Train `model` in place on the valid rows of `tokens`, pausing at each of `checkpoint_steps` (0: before).

    A checkpoint is lent for the caller's loop body: the model is in eval mode; afterwards modes,
    requires_grad, cudnn flags and all random states are put back, and the weights must be as before, else
    InputError. Exhausting the iterator completes `config.steps` and gives back the caller's own modes and
    random states.

    The model becomes float32 first, on `device` (None = where it is). The loss of an optimizer batch is
    sum_i w_i n_i l_i / sum_i n_i over its rows of n_i completion tokens and l_i nats per token; w_i is 1, or
    from `reweighter` (see `curate.protocols.Reweighter`), which is asked once a step, at the weights before the
    step, and which `rows` tells more than their tokens. Under torchrun every rank makes this call with the same
    arguments; rank 0's weights count.

    checkpoint_steps: or a function that says so step by step, for instance by the clock, alike on all ranks.
    resume: folder written by `Checkpoint.save`; the run goes on from there bit for bit (same hardware and
        number of ranks). Earlier checkpoints are not visited again, the one at its own step is.
    advance: called with 1 after every step; log: with the record of the step.

    Raises InputError where nothing can be trained, DivergenceError when a loss or gradient is not finite, the
    weights then being those before the step, or when weights are not finite where a checkpoint is due.
    """
    distributed.start()
    device = next(model.parameters()).device if device is None else torch.device(device)
    model.to(device).float()
    wanted = checkpoint_steps if callable(checkpoint_steps) else _listed(checkpoint_steps, config)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    _check(tokens, named)
    distributed.broadcast_([*model.parameters(), *model.buffers()])
    drops_out = config.dropout and draws_at_random(model)  # a sharded model cannot be tried out
    if config.sharding == "fsdp":
        shard_(model, device)
    optimizer: SteppedOptimizer = config.optimizer.build(
        model, learning_rate=config.learning_rate, weight_decay=config.weight_decay
    )
    saving = GatheredOptimizer if config.sharding == "fsdp" else _as_it_is
    start = Checkpoint(0, model, [], 0, 0.0, saving(optimizer), config, tokens)
    if resume is not None:
        start = load_checkpoint(resume, start)
    losses, tokens_seen, seconds = list(start.losses), start.tokens_seen, start.seconds

    with (
        restored(model),
        _gradient_checkpointing(model, config.gradient_checkpointing),
        _packing(model, device, drops_out) as packed,
    ):
        gradient = Gradient(model, tokens, config, device, packed, drops_out)
        reweighting = gradient.reweigh(reweighter, rows, resume)
        if start.lowered and start.micro_batch_tokens is not None:
            gradient.budget, gradient.lowered = min(gradient.budget, start.micro_batch_tokens), True
        model.train(config.dropout)
        for step in range(start.step, config.steps + 1):
            if wanted(step):
                with whole(model), lent(model, step):
                    _check_weights(gradient, step)
                    counts = (losses[:], tokens_seen, seconds)
                    memory = (gradient.budget, gradient.lowered)
                    rest = (reweighting, drops_out)
                    yield Checkpoint(step, model, *counts, saving(optimizer), config, tokens, *memory, *rest)
            if step == config.steps:
                break
            began = time.perf_counter()
            factor = learning_rate_factor(config, step)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            gradient.update(optimizer, step)
            losses.append(gradient.loss)
            tokens_seen += gradient.tokens_seen
            seconds += time.perf_counter() - began
            if advance is not None:
                advance(1)
            if log is not None:
                about = (gradient.loss, config.learning_rate * factor, gradient.norm, gradient.passes)
                notes = tuple(gradient.notes)
                log(StepRecord(step + 1, *about, tokens_seen, seconds, gradient.budget, notes))
                gradient.notes.clear()
    with whole(model, keep=True):
        pass


def _as_it_is(optimizer: SteppedOptimizer) -> SteppedOptimizer:
    return optimizer


def _listed(steps: Sequence[int], config: TrainConfig) -> Callable[[int], bool]:
    listed = {int(step) for step in steps}
    for step in sorted(listed):
        if not 0 <= step <= config.steps:
            raise InputError(f"checkpoint step {step} is outside 0..{config.steps}; leave it out or raise steps")
    return listed.__contains__


def _check(tokens: Tokens, named: Sequence[Any]) -> None:
    if not tokens.valid.any():
        raise InputError("no row has completion text to train on; raise max_length or check the columns")
    if not named:
        raise InputError("no parameter of the model requires a gradient; unfreeze some before training")


def _check_weights(gradient: Gradient, step: int) -> None:
    """DivergenceError where trained weights, which have to be whole, are not finite after `step` updates."""
    finite = [p.isfinite().all() for p in gradient.model.parameters() if p.requires_grad]
    if step and not torch.stack(finite).all().item():
        rows = gradient.order.batch(step - 1).tolist()
        raise DivergenceError.at("what the weights became", step, rows, gradient.config.learning_rate)


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
def _packing(model: Any, device: torch.device, drops_out: bool) -> Iterator[bool]:
    """Let the model take rows end to end, without padding, for the while; yields whether it does.

    On a CPU only: on a GPU packed attention has kernels for half precision alone. And without dropout only: a
    prompt prefix that packed rows share would share its draws.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    alone = sharded_losses(model) is None  # a sharded model cannot be tried out
    packed = device.type == "cpu" and alone and not drops_out and allow_packing(model)
    try:
        yield packed
    finally:
        if config._attn_implementation != before:
            model.set_attn_implementation(before)
