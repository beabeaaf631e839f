"""What new rows must pass before they enter the dataset, whoever made them.

Rows that collide with an evaluation set never enter. Synthetic rows are then measured at the proxy's checkpoints like
the input and assigned to its clusters, so that it shows how many of them are as hard as what they were made from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.difficulty.split import INVALID
from curate.errors import RunWarning
from curate.gate import Hit, compared_texts
from curate.mixture.plan import NOT_HARD, Demand, Measured, NewRows, Realized
from curate.mixture.rescoring import rescore
from curate.run import Run

__all__ = ["admission", "contaminated_rows", "contamination_warnings"]

_BLOCK = 16_384


def admission(
    examples: Examples, run: Run, *, split: Split, scorer: Any, clusterer: Any, measurable: bool
) -> Callable[[Demand, Realized], Realized]:
    """The function that decides which of some new rows enter; see `curate.mixture.plan.realize`.

    measurable: whether new rows can be measured like the input's: not where the scores came from a file.
    """
    # Against the synthetic rows of earlier demands; an augmenter sees to its own.
    earlier = run.new_rows_index()

    def admit(demand: Demand, realized: Realized) -> Realized:
        realized = decontaminated(realized, examples, run)
        if realized.rows.origin != "synthetic" or not len(realized.rows):
            return realized
        realized = _without_hits(realized, earlier.check(_texts(realized, examples, run)))
        for row, text in zip(realized.rows.ids, _texts(realized, examples, run), strict=True):
            earlier.add(text, row)
        if not measurable or not len(realized.rows):
            return realized
        return _measured(realized, examples, run, split, scorer, clusterer, only_hard=demand.only_hard)

    return admit


def contaminated_rows(examples: Examples, run: Run) -> int:
    """How many input rows hit an evaluation set. They stay: what is in the input is the user's decision."""
    index = run.evaluation_index()
    if index is None:
        return 0
    texts = compared_texts(examples.table, examples.shape, examples.columns, run.gate.part)
    with run.progress.stage("compare with evaluation sets", len(examples)) as stage:
        count = 0
        for low in range(0, len(texts), _BLOCK):
            block = [text or "" for text in texts[low : low + _BLOCK].to_pylist()]
            count += sum(bool(hits) for hits in index.check(block))
            stage.advance(len(block))
    return count


def contamination_warnings(count: int, rows: int) -> list[RunWarning]:
    if not count:
        return []
    return [
        RunWarning(
            "input_overlaps_evaluation",
            f"{count:,} of {rows:,} input rows share text with an evaluation set.",
            "`curate gate DATA --evaluation SET --clean FILE` shows them and writes the data without them.",
        )
    ]


def as_examples(rows: NewRows, examples: Examples) -> Examples:
    """New rows as examples of the input's shape and roles."""
    import pyarrow as pa

    return Examples(rows.table, pa.array(rows.ids, pa.string()), examples.shape, examples.columns)


def decontaminated(realized: Realized, examples: Examples, run: Run) -> Realized:
    """Without the rows that hit an evaluation set of the run's gate."""
    index = run.evaluation_index()
    if index is None:
        return realized
    return _without_hits(realized, index.check(_texts(realized, examples, run)))


def _texts(realized: Realized, examples: Examples, run: Run) -> list[str]:
    """What the gate compares of each new row."""
    if not len(realized.rows):
        return []
    texts = compared_texts(realized.rows.table, examples.shape, examples.columns, run.gate.part)
    return [text or "" for text in texts.to_pylist()]


def _without_hits(realized: Realized, hits: Sequence[Sequence[Hit]]) -> Realized:
    clean = np.array([not found for found in hits], np.bool_)
    reasons = {row: (found[0].kind, str(found[0])) for row, found in enumerate(hits) if found}
    return _without(realized, clean, "gate", reasons)


def _measured(
    realized: Realized, examples: Examples, run: Run, split: Split, scorer: Any, clusterer: Any, *, only_hard: bool
) -> Realized:
    rows = realized.rows
    with run.progress.stage("measure new rows", len(rows)) as stage:
        new = as_examples(rows, examples)
        found = rescore(new, examples, split, scorer=scorer, clusterer=clusterer, run=run)
        stage.advance(len(rows))
    hard = np.asarray(found.hard)
    measured = Measured(found.difficulty, found.cluster, hard, found.scores.tokens)
    rows = replace(rows, measured=measured, extra={**rows.extra, "rescored_hard": hard.tolist()})
    invalid = int((found.cluster == INVALID).sum())
    rescored = {"measured": len(rows) - invalid, "hard": int(hard.sum()), "invalid": invalid}
    realized = replace(
        realized,
        rows=rows,
        record={**realized.record, "rescored": rescored},
        attempts=_with_measured(realized.attempts, rows),
    )
    if not only_hard:
        return realized
    reasons = dict.fromkeys(np.flatnonzero(~hard).tolist(), (NOT_HARD, NOT_HARD))
    return _without(realized, hard, "measure", reasons)


def _without(realized: Realized, kept: np.ndarray, stage: str, reasons: dict[int, tuple[str, str]]) -> Realized:
    """Without the rows that are not kept; they go to the rejected ones and lose their outcome "kept".

    reasons: of each row that is not, in short (what is counted) and in full.
    """
    if kept.all():
        return realized
    rows = realized.rows
    left_out = {rows.ids[row]: reason for row, reason in reasons.items()}
    rejected = [{"example_id": name, "stage": stage, "reason": reason} for name, (_, reason) in left_out.items()]
    return replace(
        realized,
        rows=rows.keep(kept),
        rejected=[*realized.rejected, *rejected],
        record=_counted(realized.record, left_out),
        attempts=_with_outcomes(realized.attempts, left_out),
    )


def _counted(record: dict[str, Any], left_out: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """The record with rows that did not enter taken from the kept ones, under their reason in short."""
    if "outcomes" not in record:
        return record
    outcomes = dict(record["outcomes"])
    for kind, _ in left_out.values():
        outcomes[kind] = outcomes.get(kind, 0) + 1
        outcomes["kept"] -= 1
    funnel = [[name, outcomes["kept"] if name == "kept" else count] for name, count in record["funnel"]]
    return {**record, "outcomes": outcomes, "funnel": funnel}


def _with_outcomes(attempts: Any, left_out: dict[str, tuple[str, str]]) -> Any:
    if attempts is None:
        return None
    was = zip(*(attempts[name].to_pylist() for name in ("example_id", "outcome", "detail")), strict=True)
    became = [left_out.get(name, (outcome, detail)) for name, outcome, detail in was]
    attempts = _replaced(attempts, "outcome", [outcome for outcome, _ in became])
    return _replaced(attempts, "detail", [detail for _, detail in became])


def _with_measured(attempts: Any, rows: NewRows) -> Any:
    if attempts is None or rows.measured is None:
        return attempts
    place = {name: row for row, name in enumerate(rows.ids)}
    found = [place.get(name) for name in attempts["example_id"].to_pylist()]
    hard, difficulty = rows.measured.hard.tolist(), rows.measured.difficulty.tolist()
    attempts = _replaced(attempts, "rescored_hard", [None if row is None else hard[row] for row in found])
    return _replaced(attempts, "difficulty", [None if row is None else difficulty[row] for row in found])


def _replaced(table: Any, name: str, values: list[Any]) -> Any:
    import pyarrow as pa

    number = table.schema.get_field_index(name)
    field = table.schema.field(number)
    return table.set_column(number, field, pa.array(values, field.type))
