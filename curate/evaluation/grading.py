"""The plug point of graders: what one is, which one fits an evaluation set, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from curate.component import call_hook, fingerprint
from curate.errors import InputError
from curate.evaluation.config import Evaluation
from curate.graders import JSON, Choice, Exact, Math, Tests
from curate.verify.verdict import Verdict

# Of the graders for one kind of data, the first that finds something to grade by in at least half of the rows fits.
_SPECIAL = (Tests(), JSON(), Choice())
_NAMED = "--grader exact, choice, json, math or tests"
_MOST_LABELS = 20
_LONGEST_LABEL = 50


@runtime_checkable
class Grader(Protocol):
    """Says whether completions are right.

    Optional methods:
    - `reference(question, completion, final_answer, row) -> str | None`: what a row is graded by, None = nothing.
      completion: of the row, with its tool calls as `<tool_call>` JSON `</tool_call>`; final_answer: the cell of that
      role, None where there is none. Without this method it is the final answer, else the completion.
    - `grade_many(completions, references, rows, cut_off) -> list[Verdict]`: (m,) each; cut_off: whether a completion
      ended for want of room. Without this method `grade` is called for each, and what was cut off is undecided.
    - `extract(completion, cut_off) -> str | None`: what of a completion is compared, for people to read.
    - `check()`: raises InputError where this machine cannot grade; called before a model is loaded.
    - `protocol()`: stands for the grader in what evaluations must share to be compared. Without this method it is the
      fingerprint of its parameters.
    An attribute `runs_programs = True` asks for the consent of `Evaluation.run_programs`.
    """

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """Whether a completion is right, given the reference of its row. Never a guess: what is not understood is
        undecided, which counts as not right. row: its columns as Python values, by name."""
        ...


def references(
    grader: Any,
    questions: Sequence[str],
    completions: Sequence[str],
    final_answers: Sequence[str | None],
    rows: Sequence[Mapping[str, Any]],
) -> list[str | None]:
    """(n,) what each row is graded by."""
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
    """The built-in grader that fits rows, and what each is graded by; None and nothing where none does."""
    n = len(questions)
    for grader in _SPECIAL:
        found = references(grader, questions, completions, final_answers, rows)
        # A list of numbers is a final answer too.
        fit = sum(each is not None and (not isinstance(grader, JSON) or "{" in each) for each in found)
        if n and 2 * fit >= n:
            return grader, found
    found = references(Math(), questions, completions, final_answers, rows)
    if any(each is not None for each in found):
        return Math(), found
    if _are_labels(completions):
        return Exact(), references(Exact(), questions, completions, final_answers, rows)
    return None, [None] * n


def _are_labels(completions: Sequence[str]) -> bool:
    """Whether a few short texts are all the completions there are, each more than once in the mean."""
    different = {text.strip() for text in completions} - {""}
    short = all(len(text) <= _LONGEST_LABEL and "\n" not in text for text in different)
    return short and 1 < len(different) <= min(_MOST_LABELS, len(completions) // 2)


def graded_by(
    named: Any, settings: Evaluation | None, place: str, columns: tuple[Any, Any, Any, Any]
) -> tuple[Any, list[str | None], str | None]:
    """The grader of an evaluation set, what each of its rows is graded by, and why there is none.

    named: by the set itself; else that of the settings, else what fits. settings: None where nothing is to be graded.
    place: the set, for messages. columns: as `fitting` takes them. Raises InputError for a grader that was named and
    fits no row, or runs programs without consent.
    """
    named = settings.grader if named is None and settings is not None else named
    grader, found = fitting(*columns) if named is None else (named, references(named, *columns))
    rows = len(found)
    if grader is None:
        return None, found, f"there is no final answer and no grader fits; {_NAMED} names one"
    if settings is not None and all(each is None for each in found):
        raise InputError(
            f"{place}: grader {type(grader).__name__} finds nothing to grade by in any of its {rows:,} rows; leave it "
            "out, or name another for this set: {data: FILE, grader: NAME}"
        )
    if not getattr(grader, "runs_programs", False) or settings is None or settings.run_programs:
        return grader, found, None
    if named is not None and settings.generate:
        raise InputError(
            f"{place}: grader {type(grader).__name__} runs programs that the model writes, which is not done unasked; "
            "pass --run-programs, or leave the grader out"
        )
    return None, [None] * rows, "its rows have tests of programs, which run in a sandbox with --run-programs"


def protocol_of(grader: Any) -> Any:
    """What stands for the grader in the protocol of an evaluation; for none, that of final answers."""
    grader = Math() if grader is None else grader
    return grader.protocol() if callable(getattr(grader, "protocol", None)) else fingerprint(grader)


def verdicts(
    grader: Any,
    completions: Sequence[str],
    references: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    cut_off: Sequence[bool],
) -> list[Verdict]:
    """(m,) verdicts. Raises InputError where the grader gives anything else."""
    if callable(getattr(grader, "grade_many", None)):
        found = list(grader.grade_many(completions, references, rows, cut_off))
    else:
        cells = zip(completions, references, rows, cut_off, strict=True)
        found = [Verdict.undecided if cut else grader.grade(*each) for *each, cut in cells]
    if len(found) != len(completions) or not all(isinstance(each, Verdict) for each in found):
        raise InputError(
            f"grader {type(grader).__name__} does not return a Verdict for each completion; test it with "
            "curate.checks.check_grader"
        )
    return found
