"""The grader protocol, the choice of a grader for an evaluation set, and calls to graders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from curate.component import call_hook, fingerprint
from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.graders import JSON, Choice, Exact, Math, Tests
from curate.verify.verdict import Verdict

# Graders for one kind of data; the first that finds a reference in at least half of the rows is chosen.
_SPECIAL = (Tests(), JSON(), Choice())
_NAMED = "--grader exact, choice, json, math or tests"
_MOST_LABELS = 20
_LONGEST_LABEL = 50


@runtime_checkable
class Grader(Protocol):
    """Decides whether completions are right.

    Optional methods:
    - `reference(question, completion, final_answer, row) -> str | None`: the reference of a row, None = not graded.
      completion: of the row, with its tool calls as `<tool_call>` JSON `</tool_call>`; final_answer: the cell of that
      role, None if there is none. The default is the final answer, else the completion.
    - `grade_many(completions, references, rows, cut_off) -> list[Verdict]`: (m,) each; cut_off: whether a completion
      was cut off at the token limit. The default calls `grade` for each; completions that were cut off are undecided.
    - `extract(completion, cut_off) -> str | None`: the part of a completion that is compared, for people to read.
    - `check()`: raises InputError if this machine cannot grade; called before a model is loaded.
    - `protocol()`: identifies the grader in the protocol that evaluations must share to be compared. The default is
      the fingerprint of its parameters.
    An attribute `runs_programs = True` requires the consent `Evaluation.run_programs`.
    """

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """Whether a completion is right, given the reference of its row. Must not guess: what is not understood is
        undecided, which counts as not right. row: its columns as Python values, by name."""
        ...


def references(
    grader: Any,
    questions: Sequence[str],
    completions: Sequence[str],
    final_answers: Sequence[str | None],
    rows: Sequence[Mapping[str, Any]],
) -> list[str | None]:
    """(n,) references of the rows."""
    if not callable(getattr(grader, "reference", None)):
        pairs = zip(final_answers, completions, strict=True)
        return [final or (text if text.strip() else None) for final, text in pairs]
    cells = zip(questions, completions, final_answers, rows, strict=True)
    return [_text_or_none(grader, call_hook(grader, "reference", *cell)) for cell in cells]


def _text_or_none(grader: Any, reference: Any) -> str | None:
    if reference is None or isinstance(reference, str):
        return reference
    raise InputError(
        f"grader {type(grader).__name__}: reference() returned {type(reference).__name__}; return text, or None for a "
        "row that cannot be graded"
    )


def fitting(
    questions: Sequence[str],
    completions: Sequence[str],
    final_answers: Sequence[str | None],
    rows: Sequence[Mapping[str, Any]],
) -> tuple[Any, list[str | None]]:
    """The built-in grader that fits these rows, and their references; None and no references if none fits."""
    n = len(questions)
    for grader in _SPECIAL:
        reference_list = references(grader, questions, completions, final_answers, rows)
        # a list of numbers is a final answer too
        fit = sum(
            reference is not None and (not isinstance(grader, JSON) or "{" in reference) for reference in reference_list
        )
        if n and 2 * fit >= n:
            return grader, reference_list
    reference_list = references(Math(), questions, completions, final_answers, rows)
    if any(reference is not None for reference in reference_list):
        return Math(), reference_list
    if _are_labels(completions):
        return Exact(), references(Exact(), questions, completions, final_answers, rows)
    return None, [None] * n


def _are_labels(completions: Sequence[str]) -> bool:
    """Whether the completions are a few short labels, each of which occurs more than once on average."""
    different = {text.strip() for text in completions} - {""}
    short = all(len(text) <= _LONGEST_LABEL and "\n" not in text for text in different)
    return short and 1 < len(different) <= min(_MOST_LABELS, len(completions) // 2)


def graded_by(
    named: Any, settings: Evaluation | None, place: str, columns: tuple[Any, Any, Any, Any]
) -> tuple[Any, list[str | None], str | None]:
    """The grader of an evaluation set, the references of its rows, and why there is no grader.

    named: by the set itself; else that of the settings, else the one that fits. settings: None if nothing is graded.
    place: the set, for messages. columns: arguments of `fitting`. Raises InputError if a named grader
    fits no row, or runs programs without consent.
    """
    named = settings.grader if named is None and settings is not None else named
    grader, reference_list = fitting(*columns) if named is None else (named, references(named, *columns))
    rows = len(reference_list)
    if grader is None:
        return None, reference_list, f"there is no final answer and no grader fits; {_NAMED} names one"
    if settings is not None and all(reference is None for reference in reference_list):
        raise InputError(
            f"{place}: grader {type(grader).__name__} finds nothing to grade by in any of its {rows:,} rows; leave it "
            "out, or name another for this set: {data: FILE, grader: NAME}"
        )
    if not getattr(grader, "runs_programs", False) or settings is None or settings.run_programs:
        return grader, reference_list, None
    if named is not None and settings.generate:
        raise InputError(
            f"{place}: grader {type(grader).__name__} runs programs that the model writes, which needs permission; "
            "pass --run-programs, or leave the grader out"
        )
    return None, [None] * rows, "its rows have tests of programs, which run in a sandbox with --run-programs"


def protocol_of(grader: Any) -> Any:
    """The grader's part in the protocol of an evaluation; for no grader, that of final answers."""
    grader = Math() if grader is None else grader
    return grader.protocol() if callable(getattr(grader, "protocol", None)) else fingerprint(grader)


def verdicts(
    grader: Any,
    completions: Sequence[str],
    references: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    cut_off: Sequence[bool],
) -> list[Verdict]:
    """(m,) verdicts. Raises InputError if the grader returns anything else."""
    if callable(getattr(grader, "grade_many", None)):
        verdict_list = list(grader.grade_many(completions, references, rows, cut_off))
    else:
        cells = zip(completions, references, rows, cut_off, strict=True)
        verdict_list = [Verdict.undecided if cut else grader.grade(*cell) for *cell, cut in cells]
    if len(verdict_list) != len(completions) or not all(isinstance(verdict, Verdict) for verdict in verdict_list):
        raise InputError(
            f"grader {type(grader).__name__} does not return a Verdict for each completion; test it with "
            "curate.checks.check_grader"
        )
    return verdict_list
