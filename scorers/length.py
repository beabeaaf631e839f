"""Completion length, the baseline that every other signal should beat."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from curate.component import Component
from curate.data.examples import Examples
from curate.data.turns import Turn, is_learned, said_characters
from curate.difficulty.scores import COUNTS, Scores
from curate.proxy.training import ProxyTraining
from curate.run import Run, standalone
from curate.types import FloatArray

_ROWS = 4096  # cells read at once

# Role of the completion by shape; in messages, completions are the assistant turns.
_COMPLETION = {"prompt_completion": "completion", "question_answer": "completion", "instruction": "output"}


class Length(Component):
    """Length of the completion; longer = harder. Uses no model: no training and no forward pass.

    Loss, sharpness and most other signals correlate with length; they are worth their cost only for what they add.
    unit:
        characters: of the completion, or of all assistant turns. Needs nothing but the data.
        tokens: completion tokens of the proxy's tokenizer, EOS included, after truncation to proxy.max_length.
    """

    unit: Literal["characters", "tokens"] = "characters"

    def tokenizes(self) -> bool:
        """See `curate.protocols.Scorer`."""
        return self.unit == "tokens"

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, 1); a row without completion text is invalid."""
        examples, run = standalone(examples, run)
        if self.unit == "tokens":
            # A scratch proxy's tokenizer is trained on the data that the proxy is trained on.
            trained_on = examples if run.trained_on is None else run.trained_on
            rows = ProxyTraining(trained_on, run.proxy, run.context).tokenize(examples).rows
            length, valid = rows.tokens.astype(np.float32), rows.valid  # (n,) and (n,)
            counts = {name: getattr(rows, name) for name in COUNTS}
        else:
            length, counts = _characters(examples), {}
            valid = length > 0
        return Scores(
            features=length[:, None],
            difficulty=np.where(valid, length, np.nan).astype(np.float32),
            valid=valid,
            **counts,
            ids=examples.ids,
        )


def _characters(examples: Examples) -> FloatArray:
    """(n,) float32 characters of the completion, or of all learned assistant turns."""
    lengths = np.zeros(len(examples), np.float32)  # (n,)
    role = "messages" if examples.shape == "messages" else _COMPLETION.get(examples.shape, "text")
    for low in range(0, len(examples), _ROWS):
        cells = examples.texts(role, low, min(low + _ROWS, len(examples)))
        counts = [_assistant_characters(cell) if role == "messages" else len(cell or "") for cell in cells]
        lengths[low : low + len(cells)] = counts
    return lengths


def _assistant_characters(conversation: list[Turn]) -> int:
    return sum(said_characters(turn) for turn in conversation if is_learned(turn))
