"""What a model is worth on an evaluation set: nats per token of the worked answers, and greedy answers graded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.reproduction.choice import by_level
from benchmarks.reproduction.preparation import loaded, tokens_of
from benchmarks.reproduction.settings import Settings
from curate.component import fingerprint
from curate.evaluation.results import EvaluationResult, totals
from curate.generators.decoding import sample
from curate.generators.requests import Completion, Request, Sampling
from curate.models.scoring import score_losses
from curate.verify import Verdict, extract, grade_many

_SAMPLED_AT_ONCE = 200
_SPARE_TOKENS = 2  # beyond the longest answer, for one that does not end


def _characters(answers: Sequence[str]) -> npt.NDArray[np.int32]:
    """(n,) characters of each answer and its end."""
    return np.array([len(answer) + 1 for answer in answers], np.int32)


class EvaluatedSet:
    """One evaluation set: rows with the columns of `benchmarks.reproduction.problems`."""

    def __init__(self, name: str, table: pa.Table, tokenizer: Any, settings: Settings) -> None:
        self.name, self.table, self.tokenizer, self.settings = name, table, tokenizer, settings
        self.tokens = tokens_of(loaded(table), tokenizer, settings)
        self.levels = np.array(table["level"].to_pylist())
        self.generated = settings.data == "arithmetic"

    def nll(self, model: Any) -> npt.NDArray[np.float32]:
        """(n,) nats per token of each worked answer."""
        return score_losses(model, self.tokens, precision="float32", compile=False)

    def nll_by_level(self, model: Any) -> dict[str, float]:
        """Means over rows."""
        return by_level(self.nll(model)[self.tokens.valid], self.levels[self.tokens.valid])

    def evaluate(self, model: Any) -> EvaluationResult:
        """Both measures of every row, in the form of `curate evaluate`; the loss alone where nothing can be graded."""
        n, nulls = len(self.table), pa.nulls(len(self.table))
        columns: dict[str, Any] = {
            "example_id": self.table["id"],
            "source": self.table["source"],
            "level": self.table["level"],
            "question": self.table["question"],
            "answer": self.table["final_answer"],
        }
        graded: dict[str, Any] = dict.fromkeys(("accuracy", "verdicts", "extracted", "completions"), nulls)
        cut_off = None
        if self.generated:
            completions = self._completions(model)
            cut_off = sum(each.finish_reason == "length" for each in completions) / n
            graded = self._graded([each.text for each in completions])
        counts, valid = self.tokens.completion_tokens, self.tokens.valid
        # Every seed has a tokenizer of its own. Those of arithmetic cut the answers alike, those of prose do not: there
        # the loss is given in nats per character, the end of text counting as one, instead of per token.
        units = counts if self.generated else _characters(self.table["answer"].to_pylist())
        scored = {
            "nll": pa.array(self.nll(model).astype(np.float64) * counts / units, mask=~valid),
            "nll_tokens": pa.array(units, mask=~valid),
        }
        rows = pa.table(columns | graded | scored)
        summary = {
            "kind": "evaluation",
            "name": self.name,
            "data": {"description": "generated", "rows": n},
            "protocol": fingerprint([self.table["id"].to_pylist(), units, self.generated]),
            **totals(rows),
            "cut_off": cut_off,
        }
        return EvaluationResult(summary, rows)

    def _completions(self, model: Any) -> list[Completion]:
        most = int(self.tokens.completion_tokens.max()) + _SPARE_TOKENS
        greedy = Sampling(temperature=0, max_tokens=most)
        requests = [Request(f"{question}\n", greedy, 0) for question in self.table["question"].to_pylist()]
        order = np.argsort(-self.tokens.lengths, kind="stable").tolist()  # rows of a batch then end together
        completions = sample(
            model, self.tokenizer, [requests[i] for i in order], template="plain", batch_size=_SAMPLED_AT_ONCE
        )
        return [completion for _, completion in sorted(zip(order, completions, strict=True), key=lambda pair: pair[0])]

    def _graded(self, texts: list[str]) -> dict[str, Any]:
        pairs = list(zip(texts, self.table["final_answer"].to_pylist(), strict=True))
        verdicts = grade_many(pairs, strong_only=True)
        extracted = [extract(text) for text in texts]
        return {
            "accuracy": [float(verdict == Verdict.right) for verdict in verdicts],
            "verdicts": [[verdict.value] for verdict in verdicts],
            "extracted": [[None if each is None else each.text] for each in extracted],
            "completions": [[text] for text in texts],
        }
