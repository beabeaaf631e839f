"""Next-token predictions of a checkpoint at every supervised position, a few positions at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import models
from curate.devices.precision import default_token_budget, resolve_precision
from curate.proxy.measures import LiveCheckpoint
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray

if TYPE_CHECKING:
    import torch


CPU_LOGITS = 1 << 22  # logits in memory at once; 16 MB of float32
GPU_LOGITS = 1 << 27


@dataclass(frozen=True)
class Predictions:
    """m consecutive supervised positions of a batch, row after row.

    rows: (m,) int64, row of each position in the Tokens of the batch. targets: (m,) int64, the next token.
    hidden: (m, d) last hidden states; None for a model whose head is unknown.
    logit_map: applied to the product of hidden states and head.
    """

    rows: torch.Tensor
    targets: torch.Tensor
    hidden: torch.Tensor | None
    logit_map: models.LogitMap
    _logits: Callable[[], torch.Tensor]

    def logits(self) -> torch.Tensor:
        """(m, v) float32, recomputed at every call; the caller may modify them."""
        return self._logits()

    def errors(self) -> torch.Tensor:
        """(m, v) float32: probabilities minus 1 at the target, the gradient of each loss in its logits."""
        return self._errors(self.logits())

    def product_gradients(self) -> torch.Tensor:
        """(m, v) float32 gradient of each loss in the product of hidden state and head, before `logit_map`."""
        logits = self.logits()
        return self.logit_map.backward_(self._errors(logits), logits)

    def _errors(self, logits: torch.Tensor) -> torch.Tensor:
        import torch

        errors = logits.softmax(1)
        errors[torch.arange(len(errors), device=errors.device), self.targets] -= 1
        return errors


def batches(checkpoint: LiveCheckpoint, tokens: Tokens, token_budget: int | None = None) -> Iterator[models.Batch]:
    """The valid rows of `tokens` as padded batches on the checkpoint's device; rows of similar length share a batch."""
    rows = np.flatnonzero(tokens.valid)
    for part in models.plan_batches(tokens.lengths[rows], token_budget or default_token_budget(checkpoint.device)):
        yield models.make_batch(tokens, rows[part]).to(checkpoint.device)


def predictions(checkpoint: LiveCheckpoint, batch: models.Batch) -> Iterator[Predictions]:
    """The supervised positions of a batch, without gradient, in the checkpoint's precision."""
    model = checkpoint.model
    labels = batch.labels[:, 1:]  # (b, t - 1), the token that follows each position
    supervised = labels != -100
    rows = batch.rows[supervised.nonzero()[:, 0]]  # (m,)
    targets = labels[supervised]  # (m,)
    logit_map = models.logit_map(model)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    limit = CPU_LOGITS if checkpoint.device.type == "cpu" else GPU_LOGITS
    if logit_map is None:
        rows_at_once = max(1, limit // (batch.labels.shape[1] * vocabulary))
        yield from _from_whole_model(checkpoint, batch, rows, targets, rows_at_once)
        return
    with _numerics(checkpoint):
        hidden = models.supervised_states(model, batch)  # (m, d)

    def logits(part: torch.Tensor) -> torch.Tensor:
        with _numerics(checkpoint):
            return logit_map.apply_(model.get_output_embeddings()(part).float())

    positions = max(1, limit // vocabulary)
    for low in range(0, len(targets), positions):
        part = slice(low, low + positions)
        yield Predictions(rows[part], targets[part], hidden[part], logit_map, partial(logits, hidden[part]))


def _from_whole_model(
    checkpoint: LiveCheckpoint, batch: models.Batch, rows: torch.Tensor, targets: torch.Tensor, rows_at_once: int
) -> Iterator[Predictions]:
    """Predictions from the full model's logits, for a model whose head is unknown."""
    done = 0
    for ids, labels in zip(batch.input_ids.split(rows_at_once), batch.labels.split(rows_at_once), strict=True):
        supervised = labels[:, 1:] != -100
        with _numerics(checkpoint):
            logits = checkpoint.model(input_ids=ids, use_cache=False).logits[:, :-1][supervised].float()
        stop = done + len(logits)
        yield Predictions(rows[done:stop], targets[done:stop], None, models.LogitMap(), logits.clone)
        done = stop


@contextmanager
def _numerics(checkpoint: LiveCheckpoint) -> Iterator[None]:
    import torch

    half = resolve_precision(checkpoint.precision, checkpoint.device) == torch.bfloat16
    with torch.no_grad(), torch.autocast(checkpoint.device.type, torch.bfloat16, enabled=half):
        yield


def completion_means(
    checkpoint: LiveCheckpoint, values: Callable[[Predictions], torch.Tensor], width: int
) -> FloatArray:
    """(n, width) float32: mean of `values` over each row's completion tokens; NaN for rows that are not valid.

    values: (m, width), one row per position.
    """
    import torch

    tokens = checkpoint.tokens
    # In float64, so that a GPU's order of summation does not show.
    sums = torch.zeros(len(tokens), width, dtype=torch.float64, device=checkpoint.device)  # (n, width)
    for batch in batches(checkpoint, tokens):
        for part in predictions(checkpoint, batch):
            sums.index_add_(0, part.rows, values(part).double())
    means = (sums.cpu().numpy() / np.maximum(tokens.completion_tokens, 1)[:, None]).astype(np.float32)
    means[~tokens.valid] = np.nan
    return means


def projection(size: int, dimensions: int, seed: int, device: Any) -> torch.Tensor:
    """(size, dimensions) float32 random projection R; x @ R nearly preserves lengths and angles of rows x.

    Entries are +-1 / sqrt(dimensions), each sign even (Johnson and Lindenstrauss, 1984), the same numbers on every
    device. For unit vectors the error of an inner product is about 1 / sqrt(dimensions).
    """
    import torch

    signs = np.random.default_rng(seed).integers(0, 2, (size, dimensions), dtype=np.int8) * 2 - 1
    return torch.from_numpy(signs).to(device, torch.float32) / math.sqrt(dimensions)
