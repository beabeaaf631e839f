"""Losses of reference completions under a model, in nats per token including the end of text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from curate import models
from curate.component import fingerprint
from curate.console.progress import Progress
from curate.devices.precision import resolve_precision
from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.evaluation.prompts import Shots
from curate.evaluation.target import Target
from curate.storage.cache import Cache
from curate.tokenization.encoding import TOKENS_VERSION, encode_rows
from curate.tokenization.layouts import Layout
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray

if TYPE_CHECKING:
    import torch

    from curate.models.scoring import LossEngine


SCORING = TOKENS_VERSION + 0  # add 1 when the meaning of cached values changes
_AROUND = 64  # upper bound of the tokens that a template adds around one solved example


class Scored:
    """losses: (n,) nats per token, NaN if nothing could be scored; counts: (n,) scored tokens.

    truncated: number of rows longer than the limit; completions_cut: those whose completion lost its end.
    """

    def __init__(self, losses: FloatArray, tokens: Tokens) -> None:
        self.losses = losses
        self.counts: npt.NDArray[np.int32] = tokens.completion_tokens
        self.truncated = int(tokens.truncated.sum())
        self.completions_cut = int((tokens.completion_cut > 0).sum())
        self.total = len(tokens.ids)


def scored_tokens(rows: Sequence[Layout], target: Target, settings: Evaluation, shots: Shots) -> Tokens:
    """Tokenize the rows as in training: `max_length` tokens of each plus its shots, within the model's context."""
    solved = [text for pair in zip(shots.questions, shots.solutions, strict=True) for text in pair]
    before = sum(len(target.tokenizer(text)["input_ids"]) + _AROUND for text in solved)
    limit = settings.max_length + before
    if target.context is not None:
        limit = min(limit, target.context)
    return encode_rows(rows, target.tokenizer, limit)


class CompletionScorer:
    """Computes losses of evaluation sets under one model, which is loaded at the first set missing from the cache."""

    def __init__(
        self, target: Target, settings: Evaluation, device: torch.device, cache: Cache, progress: Progress
    ) -> None:
        self.target, self.settings, self.device, self.cache, self.progress = target, settings, device, cache, progress
        self.dtype = resolve_precision(settings.precision, device)
        self._engine: LossEngine | None = None

    def score(self, name: str, tokens: Tokens) -> Scored:
        """Losses of the rows of the set `name`."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (tokens.ids, tokens.supervised, tokens.offsets, tokens.valid):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        numerics = f"{self.dtype} {self.device.type}"
        key = fingerprint([SCORING, self.target.identity, digest.hexdigest(), numerics])
        entry = self.cache.get("nll", key)
        if entry is not None:
            return Scored(np.load(entry / "losses.npy", allow_pickle=False), tokens)
        with self.progress.stage(f"score {name}", len(tokens)) as stage:
            losses = self._loaded().losses(tokens)
            stage.cost.tokens = len(tokens.ids)
        bad = np.flatnonzero(tokens.valid & ~np.isfinite(losses))
        if len(bad):
            raise InputError(
                f"the loss of row {int(bad[0])} of {name} is {losses[bad[0]]} ({len(bad):,} such rows); the weights of "
                f"{self.target.name} are damaged or diverged"
            )

        with self.cache.writing("nll", key) as folder:
            np.save(folder / "losses.npy", losses, allow_pickle=False)
        return Scored(losses, tokens)

    def _loaded(self) -> models.LossEngine:
        if self._engine is None:
            with self.progress.stage("load"):
                model = self.target.load(self.device)
            self._engine = models.LossEngine(model, precision=self.settings.precision, device=self.device)
        return self._engine

    def release(self) -> None:
        """Free the memory of the model."""
        import torch

        if self._engine is not None:
            self._engine = None
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
