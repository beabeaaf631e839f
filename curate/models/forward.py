"""Per-example losses of a causal language model, from one forward pass shared by scoring and training."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from curate.errors import InputError
from curate.models.batches import Batch
from curate.models.cross_entropy import HeadPoint, LogitMap, token_losses
from curate.models.modes import eval_mode
from curate.models.varlen_attention import VARLEN, register_varlen

# The decoder runs on whole rows, the LM head on supervised positions only and without ever storing the logits of
# a batch. How a model turns hidden states into logits is determined once per model and checked against the
# model's own logits; a model that fails the check is run as a whole, a few rows at a time: slower, but correct.

PROBE_PEAK = 64.0  # largest logit of the probe: a soft-cap must show even in an untrained model
GENERIC_LOGITS = 1 << 25  # logits in memory if the model runs as a whole; 128 MB of float32


def batch_losses(model: Any, batch: Batch) -> torch.Tensor:
    """(b,) float32 sum of negative log-likelihood over each row's supervised tokens, in nats; 0 if it has none.

    Differentiable in the model's parameters for any upstream gradient, under autocast too. The model is called
    through its decoder, so wrappers that act in the outermost `forward` (DDP) must reduce gradients themselves.
    """
    return anchor_losses(model, batch)[0]


def anchor_losses(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`batch_losses`, and what `anchored_losses` needs to know about these weights besides the weights.

    That is the hidden states of the m supervised positions, (m, d) and detached; None for a model that runs as a whole.
    """
    path = logit_map(model)
    if path is None:
        return _whole_model_losses(model, batch), None
    hidden = supervised_states(model, batch)
    return _head_losses(model, batch, hidden, path, None), hidden.detach()


def head_losses(model: Any, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
    """`batch_losses` from the `decoder_states` of the batch, for a model that has a `logit_map`."""
    path = logit_map(model)
    assert path is not None
    return _head_losses(model, batch, _supervised(batch, hidden), path, None)


def anchored_losses(
    model: Any, batch: Batch, anchor: torch.Tensor | None, weights: Mapping[torch.nn.Parameter, torch.Tensor]
) -> torch.Tensor:
    """(b,) losses of `anchor_losses` again, with the functional gradient at the current weights.

    The gradient of any weighted sum is J^T dL/dz: J, the derivative of the logits, at the current weights, dL/dz at
    those of the anchor. weights: the values that the moved parameters had there. The same random draws give the
    same dropout.
    """
    path = logit_map(model)
    if path is None:
        return _whole_model_losses(model, batch, weights)
    assert anchor is not None
    head = model.get_output_embeddings()
    bias = None if head.bias is None else weights.get(head.bias, head.bias)
    point = HeadPoint(anchor, weights.get(head.weight, head.weight).detach(), None if bias is None else bias.detach())
    return _head_losses(model, batch, supervised_states(model, batch), path, point)


def supervised_states(model: Any, batch: Batch) -> torch.Tensor:
    """(m, d) hidden states at the positions that predict a supervised token, row after row."""
    return _supervised(batch, decoder_states(model, batch))


def _supervised(batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
    labels = batch.labels[:, 1:]
    supervised = (labels != -100).flatten().nonzero()[:, 0]
    return hidden[:, : labels.shape[1]].flatten(0, 1)[supervised]


def _head_losses(
    model: Any, batch: Batch, hidden: torch.Tensor, path: LogitMap, anchor: HeadPoint | None
) -> torch.Tensor:
    head = model.get_output_embeddings()
    labels = batch.labels[:, 1:]
    targets = labels[labels != -100]
    losses = token_losses(hidden, head.weight, head.bias, targets, path, anchor)
    return torch.segment_reduce(losses, "sum", lengths=_supervised_per_row(batch), initial=0.0)


def _supervised_per_row(batch: Batch) -> torch.Tensor:
    """(b,) int64 number of supervised tokens, without the batch's first token, which nothing predicts."""
    counted = batch.labels != -100
    counted[:, 0] = False
    if batch.cu_seqlens is None:
        return counted.sum(dim=1)
    running = F.pad(counted[0].cumsum(0), (1, 0))
    return running[batch.cu_seqlens.long()].diff()


def decoder_states(model: Any, batch: Batch) -> torch.Tensor:
    """(b, T - 1, d) hidden states of the last layer that predict tokens 1..T-1, or (1, t, d) packed.

    Padding needs no mask: it is on the right, and attention is causal.
    """
    decoder = model.get_decoder()
    if batch.cu_seqlens is None:
        ids = batch.input_ids[:, : max(1, batch.input_ids.shape[1] - 1)]
        hidden: torch.Tensor = decoder(input_ids=ids, use_cache=False).last_hidden_state
        return hidden
    if model.config.get_text_config()._attn_implementation != VARLEN:
        raise InputError("the model does not take packed rows; call allow_packing(model) first, or pad the batch")
    boundaries = batch.cu_seqlens
    lengths = boundaries.diff()  # (b,)
    t = batch.input_ids.shape[1]
    prefix = int(boundaries[0])
    skipped = (boundaries[:-1] - prefix).repeat_interleave(lengths, output_size=t - prefix)  # (t - prefix,)
    longest = int(lengths.max())
    packed: torch.Tensor = decoder(
        input_ids=batch.input_ids,
        position_ids=(torch.arange(t, device=skipped.device) - F.pad(skipped, (prefix, 0)))[None],
        # A four-dimensional mask is passed through unchanged, which avoids building an unused (t, t) one.
        attention_mask=torch.ones(1, 1, 1, t, dtype=torch.bool, device=skipped.device),
        use_cache=False,
        cu_seq_lens_q=boundaries,
        cu_seq_lens_k=boundaries,
        max_length_q=longest,
        max_length_k=longest,
    ).last_hidden_state
    return packed


def _whole_model_losses(
    model: Any, batch: Batch, weights: Mapping[torch.nn.Parameter, torch.Tensor] | None = None
) -> torch.Tensor:
    """`batch_losses` for any model with logits: a few rows at a time, recomputed in the backward pass.

    With `weights` as in `anchored_losses`, for one more forward pass, under those weights.
    """
    if batch.cu_seqlens is not None:
        raise InputError("the model's LM head is not a plain linear layer, so rows cannot be packed; pad the batch")
    earlier = {name: weights[p] for name, p in model.named_parameters() if p in weights} if weights else {}

    def losses(ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if weights is None:
            logits = model(input_ids=ids, use_cache=False).logits
            return _logit_losses(logits, labels)
        devices = [ids.device] if ids.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(devices):  # both passes with the same dropout
            before = torch.func.functional_call(model, earlier, (), {"input_ids": ids, "use_cache": False}).logits
        logits = model(input_ids=ids, use_cache=False).logits
        with torch.enable_grad():
            leaf = before.detach().requires_grad_()
            value = _logit_losses(leaf, labels)
            (cotangent,) = torch.autograd.grad(value.sum(), leaf)
        # Row by row <dL/dz, z>, shifted to the value of the loss without changing the gradient.
        linear = (logits * cotangent).flatten(1).sum(1)
        return linear + (value - linear).detach()

    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = max(1, GENERIC_LOGITS // (batch.input_ids.shape[1] * vocabulary))
    compute: Callable[..., torch.Tensor] = (
        partial(checkpoint, losses, use_reentrant=False) if torch.is_grad_enabled() else losses
    )
    parts = zip(batch.input_ids.split(rows), batch.labels.split(rows), strict=True)
    return torch.cat([compute(ids, labels) for ids, labels in parts])


def _logit_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(b,) summed losses from logits (b, T, v), which predict the label to their right."""
    shifted = logits[:, :-1].float().transpose(1, 2)
    return F.cross_entropy(shifted, labels[:, 1:], ignore_index=-100, reduction="none").sum(1)


_maps: weakref.WeakKeyDictionary[Any, LogitMap | None] = weakref.WeakKeyDictionary()


def logit_map(model: Any) -> LogitMap | None:
    """How `model` computes logits from hidden states and its LM head; None if it must be run as a whole.

    Determined on the first call for a model, by comparison with the model's own logits on two short rows.
    Raises InputError for a model that is not causal.
    """
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear:  # a wrapped or quantized head computes something else
        return None
    if model not in _maps:
        with torch.no_grad(), eval_mode(model), torch.autocast(head.weight.device.type, enabled=False):
            _maps[model] = _probe(model, head)
    return _maps[model]


def _probe(model: Any, head: torch.nn.Linear) -> LogitMap | None:
    """Find the map from hidden states to logits by running the model on (2, 6) probe tokens; None if none fits."""
    config = model.config.get_text_config()
    divisor = getattr(config, "logits_scaling", None)
    scale = getattr(config, "logit_scale", None) or (1 / divisor if divisor else 1.0)
    path = LogitMap(float(scale), getattr(config, "final_logit_softcapping", None))
    ids = _probe_ids(model, 12).view(2, 6)
    _check_causal(model, ids)
    decoder = model.get_decoder()
    if decoder is model:
        return None
    try:
        hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state
    except (TypeError, ValueError, AttributeError):  # expects other arguments, or returns something else
        return None
    if hidden.shape[-1] != head.in_features:
        return None
    plain = hidden @ head.weight.t().to(hidden.dtype)
    # Scaling by a power of two is exact in every dtype.
    stretch = 2.0 ** np.ceil(np.log2(PROBE_PEAK / max(float(plain.abs().max()), 1e-30)))

    def stretched(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0] * stretch, *inputs[1:])

    handle = head.register_forward_pre_hook(stretched)
    try:
        expected = model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    logits = path.apply_(head(hidden * stretch).float()).to(expected.dtype)
    return path if logits.shape == expected.shape and _close(logits, expected) else None


def _check_causal(model: Any, ids: torch.Tensor) -> None:
    """Raise InputError if tokens on the right change predictions on the left."""
    alone = model(input_ids=ids[:1, :4], use_cache=False).logits
    followed = model(input_ids=ids, use_cache=False).logits
    if alone.shape[1] != 4:
        raise InputError(f"{type(model).__name__} returns {alone.shape[1]} logits for 4 tokens; use a plain causal LM")
    if not _close(followed[:1, :4], alone):
        raise InputError(f"{type(model).__name__} is not causal: padding changes its logits; use a causal LM")


def allow_packing(model: Any) -> bool:
    """Switch the model's attention to one that takes packed rows; False, and unchanged, if it cannot.

    The switch is checked against padded rows. Afterwards the model still takes padded batches, masks and
    caches; it differs in nothing else.
    """
    if logit_map(model) is None or not model.get_decoder()._supports_flash_attn:
        return False
    config = model.config.get_text_config()
    before = config._attn_implementation
    if before == VARLEN:
        return True
    ids = _probe_ids(model, 21)
    device = ids.device
    decoder = model.get_decoder()
    register_varlen()
    with torch.no_grad(), eval_mode(model), torch.autocast(device.type, enabled=False):
        rows = [torch.cat([ids[:5], ids[low:high]]) for low, high in ((5, 8), (8, 9), (9, 16), (16, 21))]
        alone = [decoder(input_ids=row[None], use_cache=False).last_hidden_state for row in rows]
        expected = torch.cat([alone[0][:, :5], *(hidden[:, 5:] for hidden in alone)], dim=1)  # (1, 21, d)
        boundaries = torch.tensor([5, 8, 9, 16, 21], dtype=torch.int32, device=device)
        model.set_attn_implementation(VARLEN)
        try:
            accepted = _close(decoder_states(model, Batch(ids[None], ids[None], ids[:4], boundaries)), expected)
        except (TypeError, ValueError, RuntimeError, InputError):
            accepted = False
    if not accepted:
        model.set_attn_implementation(before)
    return accepted


def _probe_ids(model: Any, count: int) -> torch.Tensor:
    """(count,) varied token ids on the model's device."""
    weight = model.get_input_embeddings().weight
    return (torch.arange(count, device=weight.device) * 7919 + 13) % weight.shape[0]


def _close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal up to the order of operations, relative to the largest value; an actual error is far larger.

    Raises InputError if the model itself gives no finite number to compare with.
    """
    if not expected.isfinite().all():
        raise InputError("the model's own outputs are not finite; load weights that are, or lower the learning rate")
    exact = expected.dtype == torch.float32
    tolerance = (1e-4 if actual.device.type == "cpu" else 2e-3) if exact else 5e-2
    return bool((actual.float() - expected.float()).abs().max() <= tolerance * expected.float().abs().max())
