"""Grade the final answers of math problems by value."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from curate.component import Component
from curate.errors import DataWarning
from curate.verify.extraction import extract, reference_answer
from curate.verify.grading import grade_many
from curate.verify.symbolic import algebra_is_here
from curate.verify.verdict import Verdict

_PROCESSES = 4
_VERSION = 6  # raise when answers are extracted or compared differently


class Math(Component):
    """Right where the final answer is that of the row, by value: see docs/answers.md for the rules.

    The answer of a row is its column of final answers, or what its solution marks as one. A completion that was cut off
    counts only where it marks its answer: its last number may be that of any step. Without math-verify what needs
    algebra is undecided.
    """

    def protocol(self) -> int | str:
        """See `curate.protocols.Grader`."""
        return _VERSION if algebra_is_here() else f"{_VERSION} without algebra"

    def check(self) -> None:
        """Warn if some of the answers cannot be graded."""
        if not algebra_is_here():
            warnings.warn(
                "math-verify is not installed: answers that are expressions stay undecided, which counts as not right; "
                "run: pip install 'curate-lm[math]'",
                DataWarning,
                stacklevel=4,
            )

    def reference(self, question: str, completion: str, final_answer: str | None, row: Mapping[str, Any]) -> str | None:
        """The final answer that the row names, that its completion marks, or that its completion is."""
        if final_answer:
            return final_answer
        marked = reference_answer(completion)
        if marked is not None:
            return marked
        answer = extract(completion)
        return answer.text if answer is not None and answer.how == "whole" else None

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """See `curate.protocols.Grader`."""
        return self.grade_many([completion], [reference], [row], [False])[0]

    def grade_many(
        self,
        completions: Sequence[str],
        references: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        cut_off: Sequence[bool],
    ) -> list[Verdict]:
        """See `curate.protocols.Grader`; uses several processes."""
        verdicts: dict[int, Verdict] = {}
        for cut in (False, True):
            indices = [k for k, row_cut_off in enumerate(cut_off) if row_cut_off == cut]
            pairs = [(completions[k], references[k]) for k in indices]
            processes = min(_PROCESSES, os.cpu_count() or 1)
            grades = grade_many(pairs, strong_only=cut, processes=processes, algebra=algebra_is_here())
            verdicts.update(zip(indices, grades, strict=True))
        return [verdicts[k] for k in range(len(completions))]

    def extract(self, completion: str, cut_off: bool) -> str | None:
        """The final answer that counts."""
        answer = extract(completion)
        return answer.text if answer is not None and (answer.strong or not cut_off) else None
