"""The training loop shared by proxy runs, fine-tuning and reweighting, so that they are comparable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from curate.devices import distributed
from curate.errors import DivergenceError, InputError
from curate.models.forward import allow_packing
from curate.models.modes import preserve_state, read_only_eval, uses_randomness
from curate.tokenization.tokens import Tokens
from curate.training.checkpoint import Checkpoint, load_checkpoint, load_reweighting
from curate.training.config import StepRecord, TrainConfig, learning_rate_factor
from curate.training.fsdp import full_optimizer_state, shard_, unsharded
from curate.training.reweighting import NO_ROWS, TrainingRows
from curate.training.step import TrainingStep


# `train` is a generator of checkpoints: the caller evaluates or saves a checkpoint in the body of its loop. Every
# optimizer step draws its rows from (seed, epoch) and its randomness from (seed, step, rank), so the only state of a
# run is weights and optimizer moments: any step can be replayed, and an evaluation cannot change what follows.
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

    A checkpoint is valid in the caller's loop body: the model is in eval mode; afterwards modes, requires_grad, cudnn
    flags and all random states are restored, and the weights must be as before, else InputError. Exhausting the
    iterator completes `config.steps` and restores the caller's own modes and random states.

    The model becomes float32 first, on `device` (None = where it is). The loss of an optimizer batch is
    sum_i w_i n_i l_i / sum_i n_i over its rows of n_i completion tokens and l_i nats per token; w_i is 1, or
    from `reweighter` (see `curate.protocols.Reweighter`), which is called once a step, at the weights before the
    step; `rows` holds what it may read besides tokens. Under torchrun every rank makes this call with the same
    arguments; rank 0's weights count.

    checkpoint_steps: or a predicate of the step, for instance by the clock, with the same answer on all ranks.
    resume: folder written by `Checkpoint.save`; the run resumes from there bit for bit (same hardware and number of
        ranks). Earlier checkpoints are not visited again, the one at its own step is.
    advance: called with 1 after every step; log: with the record of the step.

    Raises InputError if nothing can be trained, DivergenceError when a loss or gradient is not finite, the
    weights then being those before the step, or when weights are not finite where a checkpoint is due.
    """
    distributed.start()
    device = next(model.parameters()).device if device is None else torch.device(device)
    model.to(device).float()
    due = checkpoint_steps if callable(checkpoint_steps) else _listed(checkpoint_steps, config)
    _check(tokens, model)
    distributed.broadcast_([*model.parameters(), *model.buffers()])
    drops_out = config.dropout and uses_randomness(model)  # before sharding: it runs the model
    sharded = config.sharding == "fsdp"
    if sharded:
        shard_(model, device)
    optimizer = config.optimizer.build(model, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    start = Checkpoint(0, model, [], 0, 0.0, optimizer, config, tokens, drops_out=drops_out)
    remembered = None
    if resume is not None:
        start = load_checkpoint(resume, start)
        remembered = load_reweighting(resume, len(tokens), reweighter)
    losses, tokens_seen, seconds = list(start.losses), start.tokens_seen, start.seconds

    with (
        preserve_state(model),
        _gradient_checkpointing(model, config.gradient_checkpointing),
        _packing(model, possible=device.type == "cpu" and not sharded and not drops_out) as packed,
    ):
        update = TrainingStep(model, tokens, config, device, packed, drops_out, sharded)
        reweighting = None if reweighter is None else update.reweight(reweighter, rows, remembered)
        if start.lowered and start.micro_batch_tokens is not None:
            update.budget, update.lowered = min(update.budget, start.micro_batch_tokens), True
        model.train(config.dropout)
        for step in range(start.step, config.steps + 1):
            if due(step):
                # All ranks meet here before the caller's loop body, in which rank 0 may save alone.
                full_state = full_optimizer_state(model, optimizer) if sharded else None
                with unsharded(model) if sharded else contextlib.nullcontext(), read_only_eval(model, step):
                    _check_weights(update, step)
                    reached = replace(start, step=step, losses=losses[:], tokens_seen=tokens_seen, seconds=seconds)
                    reached = replace(reached, micro_batch_tokens=update.budget, lowered=update.lowered)
                    yield replace(reached, reweighting=reweighting, full_optimizer_state=full_state)
            if step == config.steps:
                break
            began = time.perf_counter()
            factor = learning_rate_factor(config, step)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            update.run(optimizer, step)
            losses.append(update.loss)
            tokens_seen += update.tokens_seen
            seconds += time.perf_counter() - began
            if advance is not None:
                advance(1)
            if log is not None:
                values = (update.loss, config.learning_rate * factor, update.norm, update.passes)
                log(StepRecord(step + 1, *values, tokens_seen, seconds, update.budget, tuple(update.notes)))
                update.notes.clear()
    if sharded:
        with unsharded(model, keep=True):
            pass


def _listed(steps: Sequence[int], config: TrainConfig) -> Callable[[int], bool]:
    """The predicate of the listed steps, which must be in the run."""
    listed = {int(step) for step in steps}
    for step in sorted(listed):
        if not 0 <= step <= config.steps:
            raise InputError(f"checkpoint step {step} is outside 0..{config.steps}; leave it out or raise steps")
    return listed.__contains__


def _check(tokens: Tokens, model: Any) -> None:
    if not tokens.valid.any():
        raise InputError("no row has completion text to train on; raise max_length or check the columns")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("no parameter of the model requires a gradient; unfreeze some before training")


def _check_weights(update: TrainingStep, step: int) -> None:
    """Raise DivergenceError if trained weights, which must be unsharded, are not finite after `step` updates."""
    finite = [p.isfinite().all() for p in update.model.parameters() if p.requires_grad]
    if step and not torch.stack(finite).all().item():
        rows = update.order.batch(step - 1).tolist()
        raise DivergenceError.at("what the weights became", step, rows, update.config.learning_rate)


@contextlib.contextmanager
def _gradient_checkpointing(model: Any, enabled: bool) -> Iterator[None]:
    if not enabled or any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        yield
        return
    # Newer releases of transformers check "activation", older ones only "gradient".
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    enable()
    try:
        yield
    finally:
        disable()


@contextlib.contextmanager
def _packing(model: Any, *, possible: bool) -> Iterator[bool]:
    """Let the model take rows end to end, without padding, inside the context; yields whether it does.

    possible: on a CPU only, since packed attention has GPU kernels for half precision alone; not if the model is
    sharded, which cannot be tried out; and not with dropout, whose draws rows with a shared prefix would share.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    packed = possible and allow_packing(model)
    try:
        yield packed
    finally:
        if config._attn_implementation != before:
            model.set_attn_implementation(before)
