"""Preference margin: how much more likely the rejected answer of a pair is than the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.component import Component, fingerprint
from curate.data.examples import Examples, hash_columns
from curate.difficulty.diagnostics import rank_correlation
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.measures import LiveCheckpoint, MeanLoss, Measure
from curate.run import Run, standalone
from curate.tokenization.encoding import tokenize
from curate.types import FloatArray


class RejectedLoss(Component):
    """Loss and length of the rejected answer of each pair, after the same prompt."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 2): loss (nats per token) and number of completion tokens of the rejected answers; NaN without text."""
        key = fingerprint([self, examples.fingerprint(), self.key_of(examples)])
        if key not in checkpoint.run_memo:
            proxy_training = checkpoint.proxy_training
            checkpoint.run_memo[key] = tokenize(
                examples.rejected(),
                proxy_training.tokenizer,
                template=proxy_training.template,
                max_length=proxy_training.max_length,
                supervise=proxy_training.proxy.supervise,
                refuse=lambda row, reason: None,
            )
        tokens = checkpoint.run_memo[key]
        losses = checkpoint.losses(tokens)
        return np.stack([losses, np.where(tokens.valid, tokens.completion_tokens, np.nan)], axis=1).astype(np.float32)

    def key_of(self, examples: Examples) -> str:
        """See `curate.protocols.Measure`: the proxy's fingerprint does not cover the rejected answers."""
        rejected = examples.rejected()
        role = "output" if "output" in rejected.columns else "completion"
        return hash_columns([(role, rejected.column(role)), *rejected.interpreted()])


class PreferenceMargin(Component):
    """Margin of preference pairs: loss of the chosen answer minus loss of the rejected one, in nats per token.

    Each answer's loss is its mean cross-entropy after the shared prompt. Features are the K differences at the
    checkpoints of the proxy, difficulty is their mean: higher = harder, since the model finds the rejected answer more
    likely, or learns late to prefer the chosen one. The proxy is trained on the chosen answers only, by supervised
    fine-tuning.

    This is not the implicit reward of DPO (Rafailov et al., arXiv 2305.18290), which is the difference of the *sums* of
    log-probabilities relative to a reference model, times beta. It is closest to the length-normalized reward of SimPO
    (Meng et al., arXiv 2405.14734), without its beta and target margin. Means over tokens of answers of different
    lengths still depend on length: the Spearman correlation of the margin with the difference of lengths (tokens of the
    chosen minus those of the rejected answer) is reported as `length_difference_correlation`.

    If the prompt is a conversation, its earlier assistant turns are context and count in neither loss.

    A pair is invalid if either answer has no text within max_length. Both answers of a pair stay in one row. Cost: two
    forward passes per pair and checkpoint.
    """

    def measures(self) -> Sequence[Measure]:
        return [MeanLoss(), RejectedLoss()]

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError if the rows are not preference pairs."""
        if not examples.paired:
            raise InputError(
                "PreferenceMargin compares chosen with rejected answers, and the data has none; name their columns "
                "with --columns chosen=COLUMN,rejected=COLUMN, or choose another scorer"
            )

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n pairs with features (n, K); the trajectory is that of the chosen answers."""
        examples, run = standalone(examples, run)
        self.check_examples(examples)
        chosen, rejected = self.measures()
        trace = run.trace(examples, [chosen, rejected])
        rejected_values = trace.of(rejected)  # (n, K, 2)
        valid = trace.valid & np.isfinite(rejected_values[:, 0, 1])  # (n,)
        margin = trace.losses - rejected_values[:, :, 0]  # (n, K)
        scores = trace.to_scores(margin, what="margin", valid=valid)
        lengths = np.where(valid, rejected_values[:, 0, 1], 0).astype(np.int32)
        difference = np.where(valid, trace.tokens - lengths, 0).astype(np.int32)  # (n,)
        correlation = rank_correlation(scores.difficulty[valid], difference[valid]) if valid.any() else None
        if correlation is not None:
            run.progress.note(f"  margin and difference of lengths: Spearman correlation {correlation:+.2f}")
        return scores.with_length_difference(difference)
