"""Examples that one arm gets right and the other wrong, seed after seed: what a difference is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.comparison.paired_scores import Metric, SetValues, taken
from curate.comparison.runs import ArmRun, Groups

__all__ = ["Example", "Outcome", "outcomes"]

SHOWN = 5  # examples won, and lost, for each arm


@dataclass(frozen=True)
class Example:
    """One question with what the two arms made of it in runs of one seed; scores are means over seeds."""

    set: str
    identity: str
    level: str | None
    source: str | None
    question: str
    answer: str
    arm_score: float
    baseline_score: float
    arm_completion: str | None
    baseline_completion: str | None


@dataclass(frozen=True)
class Outcome:
    """How many examples an arm won, lost and drew against the baseline, and some of those won and lost.

    By accuracy an example is won where most seeds of the arm answer it right and most of the baseline's do not. By nll
    each example is won or lost, and the shown ones are those that moved most.
    """

    arm: str
    budget: str | None
    metric: Metric
    won: int
    lost: int
    drawn: int
    gains: tuple[Example, ...]
    losses: tuple[Example, ...]


def outcomes(
    groups: Groups, baseline: str, values: dict[Metric, list[SetValues]], metric: Metric
) -> tuple[Outcome, ...]:
    found = []
    for budget, members in groups.items():
        for arm in members:
            if arm != baseline:
                common = sorted(set(members[arm]) & set(members[baseline]))
                pair = [members[arm][seed] for seed in common], [members[baseline][seed] for seed in common]
                found.append(_outcome(arm, budget, metric, values[metric], *pair))
    return tuple(found)


def _outcome(
    arm: str, budget: str | None, metric: Metric, sets: list[SetValues], runs: list[ArmRun], others: list[ArmRun]
) -> Outcome:
    won = lost = drawn = 0
    ranked: dict[bool, list[tuple[float, SetValues, int]]] = {True: [], False: []}
    for each in sets:
        mine, theirs = each.table(runs).mean(axis=0), each.table(others).mean(axis=0)
        if metric == "accuracy":
            up, down = (mine > 0.5) & (theirs <= 0.5), (theirs > 0.5) & (mine <= 0.5)
            gain = mine - theirs
        else:
            up, down = mine < theirs, mine > theirs
            gain = theirs - mine
        won, lost, drawn = won + int(up.sum()), lost + int(down.sum()), drawn + int((~up & ~down).sum())
        for side, mask in ((True, up), (False, down)):
            rows = np.flatnonzero(mask)
            order = rows[np.argsort(-np.abs(gain[rows]), kind="stable")][:SHOWN]
            ranked[side] += [(float(abs(gain[row])), each, int(row)) for row in order]
    shown = {
        side: tuple(
            _example(each, row, runs, others, up=side)
            for _, each, row in sorted(listed, key=lambda item: -item[0])[:SHOWN]
        )
        for side, listed in ranked.items()
    }
    return Outcome(arm, budget, metric, won, lost, drawn, shown[True], shown[False])


def _example(values: SetValues, row: int, runs: list[ArmRun], others: list[ArmRun], *, up: bool) -> Example:
    mine, theirs = values.table(runs)[:, row], values.table(others)[:, row]
    sign = (1 if up else -1) * (-1 if values.metric == "nll" else 1)
    telling = int(np.argmax(sign * (mine - theirs)))  # the seed in which the two differ as they do on the whole
    identity = values.ids[row]
    fields, other = (_cells(each[telling], values.name, identity) for each in (runs, others))
    return Example(
        set=values.name,
        identity=identity,
        level=fields.get("level"),
        source=fields.get("source"),
        question=str(fields.get("question") or ""),
        answer=str(fields.get("answer") or ""),
        arm_score=float(mine.mean()),
        baseline_score=float(theirs.mean()),
        arm_completion=_completion(fields, right=up),
        baseline_completion=_completion(other, right=not up),
    )


def _cells(run: ArmRun, name: str, identity: str) -> dict[str, Any]:
    cells: dict[str, Any] = taken(run.evaluations[name].rows, [identity]).to_pylist()[0]
    return cells


def _completion(cells: dict[str, Any], *, right: bool) -> str | None:
    """Of several samples one whose verdict is the one that tells."""
    completions, verdicts = cells.get("completions") or [], cells.get("verdicts") or []
    for text, verdict in zip(completions, verdicts, strict=False):
        if (verdict == "right") is right:
            return str(text)
    return str(completions[0]) if completions else None
