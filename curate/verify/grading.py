"""Grade solutions against a known final answer."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from curate.errors import InputError
from curate.verify.equivalence import compare
from curate.verify.extraction import extract
from curate.verify.numbers import plain_number
from curate.verify.sandbox import printed_answer, program_in
from curate.verify.symbolic import Worker, workers
from curate.verify.verdict import Verdict

# Maximum seconds for one comparison of two expressions.
WALL_SECONDS = 5.0


class _NeedsAlgebra(Exception):
    """Comparing two answers requires algebra, which runs in a worker process."""


def grade(
    completion: str,
    answer: str,
    *,
    strong_only: bool = False,
    ordered: bool = False,
    run_programs: bool = False,
    wall_seconds: float = WALL_SECONDS,
) -> Verdict:
    """Whether the final answer of `completion` (any string) is `answer`, by the rules in docs/answers.md.

    strong_only: ignore a text that marks no answer (its last number may be anything); the verdict is then undecided.
    ordered: whether the order of a list without brackets counts.
    run_programs: run a completion that is a Python program in a sandbox; its answer is the last line it prints.
    wall_seconds: maximum time for one comparison of expressions; undecided after that.

    InputError if expressions must be compared and math-verify is not installed.
    """
    readings = _readings(completion, answer, strong_only, run_programs)
    return _any_of([_same(reading, answer, ordered, wall_seconds) for reading in readings])


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
    """`grade` for each (completion, answer), in order, in `processes` worker processes; duplicates are compared once.

    algebra: False = comparisons of expressions are undecided, and math-verify is not needed.
    """
    if processes < 1:
        raise InputError(f"processes={processes} cannot grade anything; use 1 or more")
    solutions = [(_readings(completion, answer, strong_only, run_programs), answer) for completion, answer in pairs]
    verdicts: dict[tuple[str, str], Verdict] = {}
    hard: list[tuple[str, str]] = []
    for pair in dict.fromkeys((reading, answer) for readings, answer in solutions for reading in readings):
        verdict = _quick(*pair, ordered)
        if verdict is None and algebra:
            hard.append(pair)
        else:
            verdicts[pair] = verdict or Verdict.undecided
    if hard:
        pool = workers(min(processes, len(hard)))
        with ThreadPoolExecutor(len(pool)) as threads:
            todo = iter(hard)
            parts = threads.map(lambda worker: _drain(todo, worker, ordered, wall_seconds), pool)
            for part in parts:
                verdicts.update(part)
    return [_any_of([verdicts[reading, answer] for reading in readings]) for readings, answer in solutions]


def same_answer(candidate: str, answer: str, *, ordered: bool = False, wall_seconds: float = WALL_SECONDS) -> Verdict:
    """Whether two bare answers are the same, by the rules of `grade`."""
    return _same(candidate, answer, ordered, wall_seconds)


def _readings(completion: str, answer: str, strong_only: bool, run_programs: bool) -> tuple[str, ...]:
    """The final answer of a completion in every way it can be read; empty if there is none."""
    program = program_in(completion) if run_programs else None
    if program is not None:
        printed = printed_answer(program)
        return () if printed is None else (printed,)
    extracted = extract(completion)
    # The last number of a text says nothing about an answer that is not a number.
    if extracted is None or not (extracted.strong or (not strong_only and plain_number(answer) is not None)):
        return ()
    return extracted.readings


def _any_of(verdicts: list[Verdict]) -> Verdict:
    """Right if any reading is, and wrong if every one is; undecided if there is none."""
    if len(verdicts) == 1:
        return verdicts[0]
    if Verdict.right in verdicts:
        return Verdict.right
    return Verdict.wrong if verdicts and set(verdicts) == {Verdict.wrong} else Verdict.undecided


def _same(candidate: str, answer: str, ordered: bool, seconds: float) -> Verdict:
    verdict = _quick(candidate, answer, ordered)
    if verdict is None:
        return workers(1)[0].compare(candidate, answer, ordered=ordered, seconds=seconds)
    return verdict


def _quick(candidate: str, answer: str, ordered: bool) -> Verdict | None:
    """The verdict, or None if it requires algebra."""
    try:
        return compare(candidate, answer, _ask, ordered=ordered)
    except _NeedsAlgebra:
        return None
    except RecursionError:  # brackets nested hundreds deep
        return Verdict.undecided


def _ask(candidate: str, reference: str) -> Verdict:
    raise _NeedsAlgebra


def _drain(
    todo: Iterable[tuple[str, str]], worker: Worker, ordered: bool, seconds: float
) -> dict[tuple[str, str], Verdict]:
    """Compare pairs until none is left. Runs in one thread per worker; they share `todo`, whose next() is atomic."""
    return {pair: worker.compare(*pair, ordered=ordered, seconds=seconds) for pair in todo}
