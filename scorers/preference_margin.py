"""Preference margin: how much likelier a model finds the rejected answer of a pair than the chosen one."""

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
    """Loss of the rejected answer of each pair behind the same prompt, and its length."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 2): loss in nats per token and completion tokens of the rejected answers; NaN where they have no text."""
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
        """See `curate.protocols.Measure`: the rejected answers are no part of what the proxy is trained on."""
        rejected = examples.rejected()
        role = "output" if "output" in rejected.columns else "completion"
        return hash_columns([(role, rejected.column(role))])


class PreferenceMargin(Component):
    """Margin of preference pairs: loss of the chosen answer minus loss of the rejected one, in nats per token.

    Each answer's loss is its mean cross-entropy behind the shared prompt. Features are the K differences at the
    checkpoints of the proxy, difficulty is their mean: higher = harder, for the model finds the rejected answer
    likelier, or comes to prefer the chosen one late. The proxy learns the chosen answers alone, by supervised
    fine-tuning.

    This is not the implicit reward of DPO (Rafailov et al., arXiv 2305.18290), which is the difference of the *sums* of
    log-probabilities relative to a reference model, times beta. It is nearest to the length-normalized reward of SimPO
    (Meng et al., arXiv 2405.14734), without its beta and target margin. Means over tokens of answers of different
    lengths still depend on length: the Spearman correlation of the margin with the difference of lengths (tokens of the
    chosen minus those of the rejected answer) is reported as `length_difference_correlation`.

    Where the prompt is a conversation, earlier turns of the assistant in it are context and count in neither loss.

    A pair of which either answer has no text left within max_length is invalid. Pairs stay whole: nothing here splits a
    row. Cost: two forward passes per pair and checkpoint.
    """

    def measures(self) -> Sequence[Measure]:
        return [MeanLoss(), RejectedLoss()]

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError where the rows are no preference pairs."""
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
        other = trace.of(rejected)  # (n, K, 2)
        valid = trace.valid & np.isfinite(other[:, 0, 1])
        margin = trace.losses - other[:, :, 0]  # (n, K)
        scores = trace.to_scores(margin, what="margin", valid=valid)
        lengths = np.where(valid, other[:, 0, 1], 0).astype(np.int32)
        difference = np.where(valid, trace.tokens - lengths, 0).astype(np.int32)  # (n,)
        correlation = rank_correlation(scores.difficulty[valid], difference[valid]) if valid.any() else None
        if correlation is not None:
            run.progress.note(f"  margin and difference of lengths: Spearman correlation {correlation:+.2f}")
        return scores.with_length_difference(difference)
