"""Learnability: loss under the proxy minus loss under a reference model (RHO-LOSS)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from curate import models
from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.models.loading import identify, load_model, load_tokenizer
from curate.models.trained_template import recorded_template, warn_of_template_change
from curate.proxy.measures import LiveCheckpoint, MeanLoss
from curate.proxy.training import ProxyTraining
from curate.run import Run, standalone
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray


class LossUnderReference(Component):
    """Loss of an example under a fixed reference model, on the proxy's tokens.

    identity: identifies the files of `model` when this measure was constructed (`curate.models.loading.identify`).
    """

    model: str
    identity: str
    revision: str | None = None
    trust_remote_code: bool = False

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 1) losses in nats per token, the same at every checkpoint; NaN for rows without completion text.

        Raises InputError if the model takes shorter rows than the proxy.
        """
        key = f"{self!r} {_digest(checkpoint.tokens)}"
        if key not in checkpoint.run_memo:
            if repr(self) not in checkpoint.run_memo:
                checkpoint.run_memo[repr(self)] = self._engine(checkpoint)
            checkpoint.run_memo[key] = checkpoint.run_memo[repr(self)].losses(checkpoint.tokens)[:, None]
        losses: FloatArray = checkpoint.run_memo[key]
        return losses

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`; assumes that the reference is as large as the proxy."""
        return 1.0

    def check_proxy(self, proxy_training: ProxyTraining) -> None:
        """Raises InputError if the reference has another tokenizer than the proxy."""
        own = load_tokenizer(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)
        if own.get_vocab() != proxy_training.tokenizer.get_vocab():
            raise InputError(
                f"the reference model {self.model} has another tokenizer than the proxy {proxy_training.proxy.model}, "
                "so their losses per token cannot be compared; choose a reference of the proxy's family, or that model "
                "as the proxy"
            )
        remedy = "give both models the template they know"
        warn_of_template_change(
            self.model, recorded_template(self.model, self.revision), proxy_training.template, remedy
        )

    def _engine(self, checkpoint: LiveCheckpoint) -> Any:
        """Load the reference model on the checkpoint's device, as a `models.LossEngine`."""
        longest = checkpoint.proxy_training.max_length
        model = load_model(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and limit < longest:
            raise InputError(
                f"the reference model {self.model} takes {limit} tokens but rows have up to {longest}; set "
                f"proxy.max_length to at most {limit}"
            )
        return models.LossEngine(model.to(checkpoint.device), precision=checkpoint.precision, device=checkpoint.device)


def _digest(tokens: Tokens) -> str:
    """32 hex digits of what decides the losses of `tokens`."""
    parts = (tokens.ids, tokens.supervised, tokens.offsets, tokens.valid)
    return hashlib.blake2b(b"".join(part.tobytes() for part in parts), digest_size=16).hexdigest()


class Learnability(Component):
    """Reducible holdout loss: loss under the proxy minus loss under a reference model (Mindermann et al., 2206.07137).

    RHO-LOSS = L[y | x; trained so far] - L[y | x; trained on a holdout set]. High for rows that can be learned but are
    not learned yet; about 0 for rows that are learned already; low or negative for noise, on which the reference does
    no better than the proxy. So higher = learned later, and worth learning: unlike the loss, it does not mark a wrong
    answer as hard. The reference should know the domain and must not have been trained on these rows.

    reference: hub id, folder or GGUF file of a model with the proxy's tokenizer; losses per token of different
        tokenizers cannot be compared.
    Features are the K differences in nats per token, difficulty their mean. Cost: one forward pass per example and
    checkpoint of the proxy, and one per example of the reference.
    """

    reference: str
    revision: str | None = None
    trust_remote_code: bool = False

    def measures(self) -> Sequence[MeanLoss | LossUnderReference]:
        """Raises InputError if the reference is missing, ExternalError if the hub does not answer."""
        reference_loss = LossUnderReference(
            model=self.reference,
            identity=identify(self.reference, self.revision),
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
        )
        return [MeanLoss(), reference_loss]

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K)."""
        examples, run = standalone(examples, run)
        loss, reference = self.measures()
        trace = run.trace(examples, [loss, reference])
        features = trace.losses - trace.scalars(reference)
        remedy = f"look at the reference model {self.reference}"
        return trace.to_scores(features, what="learnability", remedy=remedy)
