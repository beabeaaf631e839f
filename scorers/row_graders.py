"""Choose the grader of each row: its final answer, or a grader that accepts its own completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.data.examples import Examples
from curate.evaluation.grading import references, verdicts
from curate.evaluation.sets import questions_and_answers
from curate.graders import JSON
from curate.verify import Verdict, grade_many, reference_answer
from curate.verify.symbolic import algebra_is_here


def verifiable(examples: Examples, graders: Sequence[Any], *, answers: bool) -> list[tuple[Any, str] | None]:
    """(n,) grader (None = final answers) and what a row is graded by; None for rows that cannot be graded, or whose
    own completion is not graded right.

    graders: are tried in turn; before them, final answers where `answers` is on.
    """
    pairs: list[tuple[Any, str] | None] = [None] * len(examples)
    if answers:
        pairs = [None if answer is None else (None, answer) for answer in _verifiable(examples)]
    _, completions = questions_and_answers(examples)
    cells = examples.table.to_pylist()
    for grader in graders:
        open_rows = [(k, text) for k, text in enumerate(references_of(grader, examples)) if text and not pairs[k]]
        if not open_rows:
            continue
        places, texts = [k for k, _ in open_rows], [text for _, text in open_rows]
        own = [completions[k] or "" for k in places]
        graded_right = verdicts(grader, own, texts, [cells[k] for k in places], [False] * len(places))
        for k, text, verdict in zip(places, texts, graded_right, strict=True):
            pairs[k] = (grader, text) if verdict == Verdict.right else None
    return pairs


def references_of(grader: Any, examples: Examples) -> list[str | None]:
    """(n,) what a grader grades each row by; None = it does not grade that row."""
    questions, completions = questions_and_answers(examples)
    finals: list[str | None] = [None] * len(examples)
    if "final_answer" in examples.columns:
        finals = [None if answer is None else str(answer) for answer in examples.column("final_answer").to_pylist()]
    graded = references(grader, questions, [text or "" for text in completions], finals, examples.table.to_pylist())
    # A list of numbers is a final answer too.
    return [None if isinstance(grader, JSON) and "{" not in (text or "") else text for text in graded]


def _verifiable(examples: Examples) -> list[str | None]:
    """(n,) final answers, None for rows without one or whose own completion is not graded right against it."""
    (_, completions), n = questions_and_answers(examples), len(examples)
    completions = [text or "" for text in completions]
    final_answers = examples.column("final_answer").to_pylist() if "final_answer" in examples.columns else [None] * n
    answers = [
        str(cell).strip() if cell is not None and str(cell).strip() else reference_answer(completion)
        for cell, completion in zip(final_answers, completions, strict=True)
    ]
    rows = [k for k, answer in enumerate(answers) if answer is not None]
    verdicts = grade_many([(completions[k], str(answers[k])) for k in rows], algebra=algebra_is_here())
    right = {k for k, verdict in zip(rows, verdicts, strict=True) if verdict == Verdict.right}
    return [answer if k in right else None for k, answer in enumerate(answers)]
