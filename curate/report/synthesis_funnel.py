"""Funnel of synthesis: problems left after each step, reasons for losses, and advice."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from curate.console.formatting import as_label, count, real, share
from curate.mixture.plan import NOT_HARD
from curate.report.finished_run import look_up, mapping
from curate.report.reasons import NOT_STARTED, REASONS, Reason, kind_of, outcome_of

_Z = 1.959963984540054  # of a two-sided 95 % interval of the normal distribution
_KEPT = "kept"
# {name in the record: (name on the page, meaning of the step)}.
_STEPS = {
    "proposals asked for": ("new problems asked for", "one request for each, from the solution of a row"),
    "proposals written": ("replies received", "fewer than asked for where the budget ended first"),
    "with a problem": ("replies with a problem", "in the form that the prompt asks for"),
    "past checks and gate": (
        "past the checks",
        "does not give its answer away, and is too near neither to rows of the input nor to an evaluation set",
    ),
    "kept by the band": ("in the band", "some, but not most, sampled solutions reach the original answer"),
    "past the checks of solutions": (
        "solutions hold",
        "right solutions use what the problem states and all of it, in its unit, and no other answer is more frequent",
    ),
    "confirmed by a second route": (
        "confirmed",
        "a program or another prompt that sees the problem alone arrives at the original answer",
    ),
    "kept": ("kept", "and no near-duplicate of another new problem"),
}


@dataclass(frozen=True)
class Step:
    """One bar of the funnel.

    of_before: share of the previous step (None for the first of its kind). width: relative to the longest bar of its
    kind, in [0, 1]. factor: text in place of the share if the unit changes. hard: whether all are hard.
    """

    name: str
    meaning: str
    count: int
    of_before: float | None
    width: float
    factor: str = ""
    hard: bool = False


@dataclass(frozen=True)
class Loss:
    """A reason for the loss of rows or problems, and their number."""

    key: str
    reason: Reason
    count: int


@dataclass(frozen=True)
class Rescored:
    """Number of new problems that are hard: `hard` of `measured`, a `share` with its 95 % interval `low` to `high`.

    invalid: number of new problems that could not be measured.
    """

    measured: int
    hard: int
    invalid: int
    share: float
    low: float
    high: float


def records(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of synthesis in a run.json; empty if nothing was synthesized."""
    listed = run.get("synthesis")
    return [record for record in listed if mapping(record, "outcomes")] if isinstance(listed, list) else []


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion, hits of n > 0 (Wilson 1927)."""
    p, z2 = hits / n, _Z * _Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def rescored(record: dict[str, Any]) -> Rescored | None:
    """Number of new problems that are hard; None if none was measured."""
    counts = mapping(record, "rescored")
    measured, hard, invalid = (_whole(counts.get(key)) for key in ("measured", "hard", "invalid"))
    if not 0 <= hard <= measured or not measured:
        return None
    return Rescored(measured, hard, invalid, hard / measured, *wilson(hard, measured))


def steps(record: dict[str, Any]) -> list[Step]:
    """The steps from chosen rows to kept problems, and to those that are hard."""
    rows = mapping(record, "rows")
    of = record.get("of")
    chosen, started = _whole(rows.get("chosen")), _whole(rows.get("started from"))
    kinds = {"hard": "hard rows", "easy": "easy rows", "random": "random rows"}
    funnel_steps = [
        _step(
            f"{kinds.get(str(of), 'rows')} to start from", "chosen by the split and the recipe", chosen, None, chosen
        ),
        _step("started from", "with one problem, a worked solution and an answer to check by", started, chosen, chosen),
    ]
    problem_steps = _funnel(record)
    longest = max((number for _, _, number in problem_steps), default=0)
    before: int | None = None
    for name, meaning, number in problem_steps:
        step = _step(name, meaning, number, before, longest)
        if before is None and started:
            step = replace(step, factor=f"{number / started:.3g} per row")
        funnel_steps.append(step)
        before = number
    if rescored(record) is not None and problem_steps:
        funnel_steps[-1] = replace(funnel_steps[-1], hard=True)
    return funnel_steps


def _funnel(record: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(name, meaning, number of problems) of each step from the first request on."""
    listed = record.get("funnel")
    pairs = [pair for pair in listed if isinstance(pair, list) and len(pair) == 2] if isinstance(listed, list) else []
    steps_of_record = [(*_STEPS.get(str(name), (as_label(str(name)), "")), _whole(number)) for name, number in pairs]
    hard_again = rescored(record)
    if hard_again is None or not steps_of_record:
        return steps_of_record
    if look_up(record, "outcomes", NOT_HARD):
        # Only hard ones were wanted: those measured come before those kept, and all of the kept are hard.
        _, _, kept_count = steps_of_record.pop()
        steps_of_record.append(
            ("new and measured", "no near-duplicate of another new problem", hard_again.measured + hard_again.invalid)
        )
        return [
            *steps_of_record,
            ("kept", "hard when measured at the proxy's checkpoints; others were not wanted", kept_count),
        ]
    return [
        *steps_of_record,
        ("hard again", "when measured at the proxy's checkpoints like the input", hard_again.hard),
    ]


def _step(name: str, meaning: str, number: int, before: int | None, longest: int) -> Step:
    return Step(name, meaning, number, number / before if before else None, number / longest if longest else 0.0)


def lost_rows(record: dict[str, Any]) -> list[Loss]:
    """Why rows were not started from, most frequent first."""
    rows = mapping(record, "rows")
    return _losses({key: value for key, value in rows.items() if key not in ("chosen", "started from")}, NOT_STARTED)


def lost_problems(record: dict[str, Any]) -> list[Loss]:
    """Why problems were not kept, most frequent first."""
    return _losses({key: value for key, value in mapping(record, "outcomes").items() if key != _KEPT}, REASONS)


def _losses(counts: dict[str, Any], known: dict[str, Reason]) -> list[Loss]:
    merged: Counter[str] = Counter()
    for key, value in counts.items():
        merged[outcome_of(key)[0]] += _whole(value)
    losses = [Loss(key, kind_of(key, known), number) for key, number in merged.items() if number]
    return sorted(losses, key=lambda loss: (-loss.count, loss.key))


def advice(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(problem, remedy) pairs for reasons that account for most of the losses."""
    outcomes = {key: _whole(value) for key, value in mapping(record, "outcomes").items()}
    funnel = {name: number for name, _, number in _funnel(record)}
    replies, checked = funnel.get("replies received", 0), funnel.get("past the checks", 0)
    kept_problems = outcomes.get(_KEPT, 0)
    pieces_of_advice = [*_about_replies(outcomes, replies), *_about_solutions(outcomes, checked, record)]
    if record.get("budget_reached") is True:
        spent = count(look_up(record, "budget"))
        pieces_of_advice.append(
            (
                f"The budget of {spent} generated tokens ended the work before every row had its turn.",
                "Raise the budget and run again: what was generated is kept and not paid for twice.",
            )
        )
    if not pieces_of_advice and replies >= 20 and kept_problems < 0.05 * replies:
        pieces_of_advice.append(
            (
                f"Only {count(kept_problems)} of {count(replies)} replies became rows.",
                "The most frequent reasons for loss say what to change; report.html shows problems that were not kept.",
            )
        )
    return pieces_of_advice


def _about_replies(outcomes: dict[str, int], replies: int) -> list[tuple[str, str]]:
    """Advice on replies that did not become problems. replies: number of replies received."""
    if not replies:
        return []
    pieces_of_advice = []
    without = outcomes.get("no problem in the proposal", 0) / replies
    if without > 0.5:
        pieces_of_advice.append(
            (
                f"{share(without)} of the replies hold no problem: the model does not answer in the form asked for.",
                "Use an instruction-tuned model as the generator (the names of many end in -Instruct or -it), not a "
                "base model.",
            )
        )
    cut = outcomes.get("proposal cut off", 0) / replies
    if cut > 0.3:
        pieces_of_advice.append(
            (
                f"{share(cut)} of the replies were cut off at the token limit.",
                "Raise max_tokens of variation_sampling; models that think aloud first need some thousands.",
            )
        )
    near = sum(number for key, number in outcomes.items() if key.startswith(("near-duplicate", "same as"))) / replies
    if near > 0.5:
        pieces_of_advice.append(
            (
                f"{share(near)} of the replies repeat a problem that is there already.",
                "Ask for fewer variants per row, raise the temperature of variation_sampling, or use a larger model.",
            )
        )
    return pieces_of_advice


def _about_solutions(outcomes: dict[str, int], checked: int, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Advice on problems that failed because of their solutions. checked: problems past the checks."""
    if not checked:
        return []
    pieces_of_advice = []
    hard, easy, ungraded = (outcomes.get(key, 0) / checked for key in ("too hard", "too easy", "cannot be graded"))
    if hard > 0.6:
        pieces_of_advice.append(
            (
                f"{share(hard)} of the problems past the checks have too few solutions that reach the original answer.",
                "Read some in report.html. Where problem and answer do not fit together, the generator is too weak to "
                "write them; where they do, to solve them. Use a stronger one, or rows that are less hard for it.",
            )
        )
    if easy > 0.6:
        pieces_of_advice.append(
            (
                f"{share(easy)} of the problems past the checks are too easy for the generator.",
                "Raise the upper end of the band, or let a smaller model solve.",
            )
        )
    if ungraded > 0.2:
        verdicts = mapping(record, "verdicts")
        pieces_of_advice.append(
            (
                f"{share(ungraded)} of the problems past the checks could not be graded "
                f"({count(verdicts.get('undecided'))} solutions are undecided).",
                "Answers that are not numbers or formulas are hard to compare; start from rows with such answers.",
            )
        )
    return pieces_of_advice


def _whole(value: Any) -> int:
    return int(real(value) or 0)
