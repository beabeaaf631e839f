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

    Near 0 where the prompt determines the completion, 1 where it does not help: higher = harder to follow.
    Above 1 the prompt misleads, which the paper takes for a mismatched pair and leaves out; here such rows are the
    hardest, so look at them. Alone, a completion is tokenized as it would be behind an empty prompt and no template:
    BOS where the tokenizer puts one, then all completion tokens of the row (of all assistant turns). Without BOS
    nothing predicts its first token, which is then left out of both losses; a row of which nothing is left is invalid.

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
        """(n, 3): loss with the prompt and without, nats per token, over the same tokens; how many tokens these are."""
        same, alone = without_prompt(checkpoint.tokens, checkpoint.proxy_training.tokenizer.bos_token_id)
        counts = same.completion_tokens.astype(np.float32)
        return np.stack([checkpoint.losses(same), checkpoint.losses(alone), counts], axis=1)

    def passes(self, rows: int, checkpoints: int) -> float:
        """See `curate.protocols.Measure`; as if completions alone were as long as rows."""
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
    """The rows as they are and their completions alone, both supervised at the same tokens.

    bos: id that may begin a row; it is kept in front, and else the first completion token is only read, in both. Rows
    of which no token is left to compare are not valid.
    """
    starts, counts = tokens.offsets[:-1], tokens.completion_tokens
    filled = tokens.lengths > 0
    begins = np.zeros(len(tokens), np.bool_)
    begins[filled] = tokens.ids[starts[filled]] == (-1 if bos is None else bos)
    ordinal = np.cumsum(tokens.supervised)  # of each completion token among those of all rows, from 1
    before = np.concatenate([[0], np.cumsum(counts)])[:-1]
    row = np.repeat(np.arange(len(tokens)), tokens.lengths)  # (t,)
    first = tokens.supervised & (ordinal - before[row] == 1)
    same = replace(tokens, supervised=tokens.supervised & ~(first & ~begins[row]))
    same = replace(same, valid=same.completion_tokens > 0)
    alone = tokens.supervised.copy()  # (t,) the tokens of completions alone, with BOS
    alone[starts[begins]] = True
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[alone], minlength=len(tokens)))]).astype(np.int64)
    supervised = np.ones(offsets[-1], np.bool_)
    supervised[offsets[:-1][np.diff(offsets) > 0]] = False
    cuts = (tokens.prompt_cut, tokens.completion_cut)
    return same, Tokens(tokens.ids[alone], supervised, offsets, same.valid, *cuts)
