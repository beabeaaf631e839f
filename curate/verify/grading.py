"""Solutions graded against a known final answer."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from curate.errors import InputError
from curate.verify.answers import compare
from curate.verify.extraction import extract
from curate.verify.numbers import plain_number
from curate.verify.sandbox import printed_answer, program_in
from curate.verify.symbolic import Worker, workers
from curate.verify.verdict import Verdict

__all__ = ["WALL_SECONDS", "grade", "grade_many", "same_answer"]

# Longest comparison of two expressions.
WALL_SECONDS = 5.0


class _NeedsAlgebra(Exception):
    """What two answers are cannot be seen in this process."""


def grade(
    completion: str,
    answer: str,
    *,
    strong_only: bool = False,
    ordered: bool = False,
    run_programs: bool = False,
    wall_seconds: float = WALL_SECONDS,
) -> Verdict:
    """Whether the final answer of `completion` (any string) is `answer`, by the rules in `curate.verify`.

    strong_only: take no answer from a text that marks none (its last number may be anything); undecided then.
    ordered: the order of a list without brackets counts.
    run_programs: a completion that is a Python program is run in a sandbox, and its answer is the last line it prints.
    wall_seconds: longest comparison of expressions; undecided after that.

    InputError if expressions have to be compared and math-verify is not installed.
    """
    candidate = _candidate(completion, answer, strong_only, run_programs)
    return Verdict.undecided if candidate is None else _same(candidate, answer, ordered, wall_seconds, workers(1)[0])


def grade_many(
    pairs: Iterable[tuple[str, str]],
    *,
    strong_only: bool = False,
    ordered: bool = False,
    run_programs: bool = False,
    wall_seconds: float = WALL_SECONDS,
    processes: int = 1,
    algebra: bool = True,
) -> list[Verdict]:
    """`grade` of each (completion, answer), in order, by so many worker processes; the same is compared once.

    algebra: False = expressions that would have to be compared are undecided, and math-verify is not needed.
    """
    if processes < 1:
        raise InputError(f"processes={processes} cannot grade anything; use 1 or more")
    asked = [(_candidate(completion, answer, strong_only, run_programs), answer) for completion, answer in pairs]
    found: dict[tuple[str, str], Verdict] = {}
    hard: list[tuple[str, str]] = []
    for candidate, answer in dict.fromkeys(asked):
        if candidate is not None:
            verdict = _quick(candidate, answer, ordered)
            if verdict is None and algebra:
                hard.append((candidate, answer))
            else:
                found[candidate, answer] = verdict or Verdict.undecided
    if hard:
        pool = workers(min(processes, len(hard)))
        with ThreadPoolExecutor(len(pool)) as threads:
            todo = iter(hard)
            parts = threads.map(lambda worker: _drain(todo, worker, ordered, wall_seconds), pool)
            for part in parts:
                found.update(part)
    return [Verdict.undecided if c is None else found[c, answer] for c, answer in asked]


def same_answer(candidate: str, answer: str, *, ordered: bool = False, wall_seconds: float = WALL_SECONDS) -> Verdict:
    """Whether two bare answers are the same, as `grade` compares them once it has found the candidate's."""
    return _same(candidate, answer, ordered, wall_seconds, workers(1)[0])


def _candidate(completion: str, answer: str, strong_only: bool, run_programs: bool) -> str | None:
    program = program_in(completion) if run_programs else None
    if program is not None:
        return printed_answer(program)
    found = extract(completion)
    if found is None or found.strong:
        return None if found is None else found.text
    # The last number of a text says nothing about an answer that is no number.
    return None if strong_only or plain_number(answer) is None else found.text


def _same(candidate: str, answer: str, ordered: bool, seconds: float, worker: Worker) -> Verdict:
    verdict = _quick(candidate, answer, ordered)
    if verdict is None:
        return worker.compare(candidate, answer, ordered=ordered, seconds=seconds)
    return verdict


def _quick(candidate: str, answer: str, ordered: bool) -> Verdict | None:
    """The verdict, or None if it takes algebra."""
    try:
        return compare(candidate, answer, _ask, ordered=ordered)
    except _NeedsAlgebra:
        return None


def _ask(candidate: str, reference: str) -> Verdict:
    raise _NeedsAlgebra


def _drain(
    todo: Iterable[tuple[str, str]], worker: Worker, ordered: bool, seconds: float
) -> dict[tuple[str, str], Verdict]:
    """Compare what is left to do until nothing is; threads may share one `todo`, since a list's next() is atomic."""
    return {pair: worker.compare(*pair, ordered=ordered, seconds=seconds) for pair in todo}
