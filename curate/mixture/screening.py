"""Screen new rows: decontamination, near-duplicates of earlier new rows, and measurement by the proxy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.gate.compared_text import compared_texts
from curate.gate.gate import Hit
from curate.mixture.plan import NOT_HARD, Demand, Measured, NewRows, Realized, Screened
from curate.mixture.rescoring import rescore
from curate.run import Run

# Rows that overlap with an evaluation set never enter. Synthetic rows are then measured at the proxy's checkpoints like
# the input and assigned to its clusters, which shows how many are as hard as the rows that they were derived from.

_BLOCK = 16_384
_SENT_ROWS = 1 << 20  # compared by workers at once; bounds the hits in memory


def admission(
    examples: Examples, run: Run, *, split: Split, scorer: Any, clusterer: Any, measurable: bool
) -> Callable[[Demand, Realized], Realized]:
    """The function `admit` of `curate.mixture.plan.realize`, which screens new rows.

    measurable: whether new rows can be measured like the input; false for scores from a file.
    """
    evaluations = run.evaluation_index()
    # Synthetic rows of earlier demands; an augmenter compares its own rows with each other.
    earlier = run.new_rows_index()

    def admit(demand: Demand, realized: Realized) -> Realized:
        """Screen the new rows of one demand; the function that `admission` returns."""
        screening = _Screening(realized.rows)
        if evaluations is not None:
            screening.reject_hits(evaluations.check(_texts(screening.rows, examples, run), run.engine))
        if realized.rows.origin == "synthetic":
            screening.reject_hits(earlier.check(_texts(screening.rows, examples, run)))
            for row, text in zip(screening.rows.ids, _texts(screening.rows, examples, run), strict=True):
                earlier.add(text, row)
            if measurable and len(screening.rows):
                screening.measure(examples, run, split, scorer, clusterer)
                if demand.only_hard:
                    screening.reject_easy()
        return screening.applied_to(realized)

    return admit


class _Screening:
    """The rows of one demand that have passed so far, and records of the rejected ones."""

    def __init__(self, rows: NewRows) -> None:
        self.rows = rows
        self.left_out: dict[str, tuple[str, str]] = {}
        self.measured: dict[str, tuple[bool, float]] = {}
        self.rejected: list[dict[str, Any]] = []

    def reject_hits(self, hits: Sequence[Sequence[Hit]]) -> None:
        """Reject rows with hits in the gate. hits: of each row."""
        reasons = {row: (row_hits[0].kind, str(row_hits[0])) for row, row_hits in enumerate(hits) if row_hits}
        self._reject("gate", reasons)

    def measure(self, examples: Examples, run: Run, split: Split, scorer: Any, clusterer: Any) -> None:
        """Measure the remaining rows at the proxy's checkpoints and assign them to clusters."""
        rows = self.rows
        new = Examples(rows.table, pa.array(rows.ids, pa.string()), examples.shape, examples.columns)
        with run.progress.stage("measure new rows", len(rows)) as stage:
            rescored = rescore(new, examples, split, scorer=scorer, clusterer=clusterer, run=run)
            stage.advance(len(rows))
        measured = Measured(rescored.difficulty, rescored.cluster, rescored.hard, rescored.scores.tokens)
        hard = measured.hard.tolist()
        self.rows = replace(rows, measured=measured, extra={**rows.extra, "rescored_hard": hard})
        self.measured = dict(zip(rows.ids, zip(hard, measured.difficulty.tolist(), strict=True), strict=True))

    def reject_easy(self) -> None:
        assert self.rows.measured is not None
        easy = np.flatnonzero(~self.rows.measured.hard).tolist()
        self._reject("measure", dict.fromkeys(easy, (NOT_HARD, NOT_HARD)))

    def _reject(self, stage: str, reasons: dict[int, tuple[str, str]]) -> None:
        """Reject rows. reasons: {row: (short, full) reason}; the short one is counted."""
        if not reasons:
            return
        left_out = {self.rows.ids[row]: reason for row, reason in reasons.items()}
        self.left_out |= left_out
        self.rejected += [{"example_id": row, "stage": stage, "reason": full} for row, (_, full) in left_out.items()]
        self.rows = self.rows.keep(~np.isin(np.arange(len(self.rows)), list(reasons)))

    def applied_to(self, realized: Realized) -> Realized:
        screened = Screened(self.left_out, self.measured)
        return replace(realized, rows=self.rows, rejected=[*realized.rejected, *self.rejected], screened=screened)


def contaminated_rows(examples: Examples, run: Run) -> int:
    """Number of input rows that overlap with an evaluation set; they are kept, since the input is the user's choice."""
    index = run.evaluation_index()
    if index is None:
        return 0
    texts = compared_texts(examples.readable, examples.shape, examples.columns, run.gate.part)
    with run.progress.stage("compare with evaluation sets", len(examples)) as stage:
        count = 0
        size = _BLOCK if run.engine is None else _SENT_ROWS
        for low in range(0, len(texts), size):
            block = [text or "" for text in texts[low : low + size].to_pylist()]
            count += sum(bool(hits) for hits in index.check(block, run.engine))
            stage.advance(len(block))
    return count


def _texts(rows: NewRows, examples: Examples, run: Run) -> list[str]:
    """The text of each new row that the gate compares."""
    if not len(rows):
        return []
    texts = compared_texts(rows.table, examples.shape, examples.columns, run.gate.part)
    return [text or "" for text in texts.to_pylist()]
