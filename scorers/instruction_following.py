"""Instruction-following difficulty: how little the prompt helps to predict the completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.proxy.measures import LiveCheckpoint, MeanLoss, Measure
from curate.run import Run, trace_for
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray


class InstructionFollowingDifficulty(Component):
    """IFD = loss of the completion given its prompt / loss of the completion alone (Li et al., arXiv 2308.12032).

    Near 0 if the prompt determines the completion, 1 if it does not help: higher = harder to follow. Above 1 the prompt
    misleads; the paper takes such rows for mismatched pairs and removes them, here they are the hardest, so inspect
    them. A completion alone is tokenized as after an empty prompt and no template: BOS if the tokenizer adds one, then
    all completion tokens of the row (of all assistant turns). Without BOS its first token cannot be predicted, and is
    left out of both losses; a row without remaining tokens is invalid.

    Features are the K ratios, difficulty their mean. Not for rows of shape text, which have no prompt. Cost: two
    forward passes per example and checkpoint, one of them without the prompt, and one for the losses.
    """

    def measures(self) -> Sequence[Measure]:
        return [MeanLoss(), self]

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError for rows without prompts."""
        if examples.shape == "text":
            raise InputError(
                "rows of shape text have no prompt to leave out; give the data as prompt and completion, or choose "
                "LossTrajectory"
            )

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, 3): loss with the prompt and without it, nats per token over the same tokens; number of these tokens."""
        same, alone = without_prompt(checkpoint.tokens, checkpoint.proxy_training.tokenizer.bos_token_id)
        counts = same.completion_tokens.astype(np.float32)
        return np.stack([checkpoint.losses(same), checkpoint.losses(alone), counts], axis=1)

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`; assumes that completions are as long as rows."""
        return 2.0 * checkpoints

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K). Raises InputError for rows without prompts."""
        trace = trace_for(self, examples, run)
        values = trace.of(self)  # (n, K, 3)
        valid = trace.valid & (values[:, 0, 2] > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            features = values[:, :, 0] / values[:, :, 1]
        return trace.to_scores(
            features,
            what="ratio of losses with and without prompt",
            remedy="lower proxy.steps, so that no completion is memorized, or leave the row out",
            valid=valid,
        )


def without_prompt(tokens: Tokens, bos: int | None) -> tuple[Tokens, Tokens]:
    """The rows unchanged and their completions alone, both supervised at the same tokens.

    bos: id of the BOS token, or None. A row that begins with it keeps it before its completion; in other rows the first
    completion token is input only, in both results. Rows without a supervised token are not valid. n rows, t tokens.
    """
    starts, counts = tokens.offsets[:-1], tokens.completion_tokens  # (n,) each
    filled = tokens.lengths > 0  # (n,)
    has_bos = np.zeros(len(tokens), np.bool_)  # (n,)
    has_bos[filled] = tokens.ids[starts[filled]] == (-1 if bos is None else bos)
    ordinal = np.cumsum(tokens.supervised)  # (t,) number of each completion token among those of all rows, from 1
    before = np.concatenate([[0], np.cumsum(counts)])[:-1]  # (n,) completion tokens of earlier rows
    row_of_token = np.repeat(np.arange(len(tokens)), tokens.lengths)  # (t,)
    # (t,) the first completion token of each row
    first = tokens.supervised & (ordinal - before[row_of_token] == 1)
    same = replace(tokens, supervised=tokens.supervised & ~(first & ~has_bos[row_of_token]))
    same = replace(same, valid=same.completion_tokens > 0)
    is_kept = tokens.supervised.copy()  # (t,) the tokens of the completions alone, with BOS
    is_kept[starts[has_bos]] = True
    # (n + 1,)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row_of_token[is_kept], minlength=len(tokens)))]).astype(
        np.int64
    )
    supervised = np.ones(offsets[-1], np.bool_)
    supervised[offsets[:-1][np.diff(offsets) > 0]] = False
    cuts = (tokens.prompt_cut, tokens.completion_cut)
    return same, Tokens(tokens.ids[is_kept], supervised, offsets, same.valid, *cuts)
