"""ADAPT: weights by similarity to a set of anchors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curate.component import Component
from curate.dataset_reference import GivenData
from curate.errors import InputError
from curate.reweighters.bm25 import bm25_scores
from curate.tokenization.tokens import Tokens
from curate.training.reweighting import BatchOutputs, OptimizerBatch, Training

if TYPE_CHECKING:
    import torch


class ADAPT(Component):
    """Online per-sample reweighting by similarity to anchors (arXiv 2605.05227).

    w_i = sigmoid(s_i / tau), s_i = mean over anchors v of cos(phi(x_i), phi(v)); phi: see `curate.models.embeddings`,
    at the current weights for the batch, and at those of the last refresh for the anchors. No example is ever dropped.
    The loss averages tokens, so that weights of 1 are the run without weights: the paper scales the gradient of each
    row's loss, and how that loss is averaged is not known. phi leaves out the state of the last token, which the
    paper's sum over all tokens has.

    anchors: a dataset of the target task, tokenized as the training rows are, answers included.
    similarity: "embedding", or "bm25": s_i = mean BM25 score of the row's tokens with the anchors' as queries,
        divided by its highest value in the data (ours: the paper gives no scale), known before training starts.
    tau: published neither for the paper's runs nor for its sigmoid; the smaller, the more similarities matter.
    centered: subtract the batch's mean from s first. Ours: hidden states of language models share a direction, so that
        raw cosines hardly differ and the weights are nearly one factor of the learning rate.
    mean_one: divide by the batch's mean weight, over its completion tokens, so that updates stay as large as without
        weights. Ours too: weights near 0.5 everywhere are half a learning rate, under SGD at least.
    refresh_every: optimizer steps between two embeddings of the anchors, each a forward pass over all of them.

    Cost: that forward pass, and another one over the batch where it takes several micro-batches; "bm25": none.
    """

    version: ClassVar[int] = 2
    anchors: GivenData
    similarity: Literal["embedding", "bm25"] = "embedding"
    tau: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    centered: bool = False
    renamed: ClassVar[Mapping[str, str]] = {"centred": "centered"}
    mean_one: bool = False
    refresh_every: int = Field(default=100, ge=1)

    def begin(self, training: Training) -> Any:
        """Raises InputError if the anchors are missing, empty or truncated before their answers."""
        import torch

        anchors = training.rows.tokens_of(
            self.anchors.data, self.anchors.reading, f"ADAPT (anchors {self.anchors.name})"
        )
        if self.similarity == "bm25":
            scores = bm25_scores(training.tokens, anchors)
            highest = float(scores.max(initial=0.0))
            if highest == 0:
                source = self.anchors.name
                raise InputError(
                    f"ADAPT: no row shares a token with the anchors {source}; use anchors in the language of the data"
                )
            return _ByRow(self, torch.from_numpy((scores / highest).astype(np.float32)))
        return _Anchored(self, training, anchors)

    def _weights(self, similarity: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(b,) weights from (b,) similarities and completion tokens."""
        import torch

        if self.centered:
            similarity = similarity - similarity.mean()
        scaled = similarity / self.tau
        if not self.mean_one:
            return scaled.sigmoid()
        # In logarithms, relative to the highest: far from every anchor all sigmoids would underflow.
        weights = torch.nn.functional.logsigmoid(scaled)
        weights = (weights - weights.max()).exp()
        tokens = tokens.to(weights)
        return weights * tokens.sum() / (weights @ tokens)


class _ByRow:
    """The state of ADAPT with BM25: (n,) similarities, fixed before training."""

    def __init__(self, settings: ADAPT, similarity: torch.Tensor) -> None:
        self.settings, self.similarity = settings, similarity

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        similarity = self.similarity[batch.known_rows("ADAPT by BM25")].to(outputs.losses)
        return self.settings._weights(similarity, batch.tokens)


class _Anchored:
    """The state of ADAPT with embeddings: the mean cosine to the anchors is the dot product with one (d,) vector, the
    mean of their unit vectors.
    """

    embeds = True

    def __init__(self, settings: ADAPT, training: Training, anchors: Tokens) -> None:
        self.settings, self.training, self.anchors = settings, training, anchors
        self.direction: torch.Tensor | None = None

    def refresh(self, step: int) -> None:
        """Embed the anchors when due. All ranks must call it."""
        if self.direction is None or step % self.settings.refresh_every == 0:
            self.direction = _unit(self.training.embeddings(self.anchors)).mean(0)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        assert self.direction is not None
        assert outputs.embeddings is not None
        return self.settings._weights(_unit(outputs.embeddings) @ self.direction, batch.tokens)

    def state(self) -> dict[str, torch.Tensor]:
        return {} if self.direction is None else {"direction": self.direction}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        if "direction" in state:
            self.direction = state["direction"].to(self.training.device)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """(n, d) rows scaled to length 1; a zero row stays zero."""
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=1)
