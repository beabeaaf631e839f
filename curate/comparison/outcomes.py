"""Examples that an arm wins and loses against the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.comparison.paired_scores import Metric, SetValues, take_ids
from curate.comparison.runs import ArmRun, Groups

_SHOWN = 5  # examples won, and lost, for each arm


@dataclass(frozen=True)
class Example:
    """One question with the completions of both arms from one seed; scores are means over seeds."""

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
    """How many examples an arm won, lost and tied against the baseline, and some of those won and lost.

    By accuracy, an example is won if most seeds of the arm answer it right and most of the baseline's do not. By nll,
    each example is won or lost, and those shown have the largest differences.
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
    result = []
    for budget, members in groups.items():
        for arm in members:
            if arm != baseline:
                common = sorted(set(members[arm]) & set(members[baseline]))
                pair = [members[arm][seed] for seed in common], [members[baseline][seed] for seed in common]
                result.append(_outcome(arm, budget, metric, values[metric], *pair))
    return tuple(result)


def _outcome(
    arm: str,
    budget: str | None,
    metric: Metric,
    sets: list[SetValues],
    arm_runs: list[ArmRun],
    baseline_runs: list[ArmRun],
) -> Outcome:
    won = lost = tied = 0
    ranked: dict[bool, list[tuple[float, SetValues, int]]] = {True: [], False: []}
    for values in sets:
        arm_means, baseline_means = values.table(arm_runs).mean(axis=0), values.table(baseline_runs).mean(axis=0)
        if metric == "accuracy":
            up, down = (arm_means > 0.5) & (baseline_means <= 0.5), (baseline_means > 0.5) & (arm_means <= 0.5)
            gain = arm_means - baseline_means
        else:
            up, down = arm_means < baseline_means, arm_means > baseline_means
            gain = baseline_means - arm_means
        won, lost, tied = won + int(up.sum()), lost + int(down.sum()), tied + int((~up & ~down).sum())
        for side, mask in ((True, up), (False, down)):
            rows = np.flatnonzero(mask)
            order = rows[np.argsort(-np.abs(gain[rows]), kind="stable")][:_SHOWN]
            ranked[side] += [(float(abs(gain[row])), values, int(row)) for row in order]
    examples = {
        side: tuple(
            _example(values, row, arm_runs, baseline_runs, up=side)
            for _, values, row in sorted(listed, key=lambda item: -item[0])[:_SHOWN]
        )
        for side, listed in ranked.items()
    }
    return Outcome(arm, budget, metric, won, lost, tied, examples[True], examples[False])


def _example(values: SetValues, row: int, arm_runs: list[ArmRun], baseline_runs: list[ArmRun], *, up: bool) -> Example:
    arm_scores, baseline_scores = values.table(arm_runs)[:, row], values.table(baseline_runs)[:, row]
    sign = (1 if up else -1) * (-1 if values.metric == "nll" else 1)
    chosen = int(
        np.argmax(sign * (arm_scores - baseline_scores))
    )  # the seed whose difference is largest in that direction
    identity = values.ids[row]
    arm_fields, baseline_fields = (_cells(runs[chosen], values.name, identity) for runs in (arm_runs, baseline_runs))
    return Example(
        set=values.name,
        identity=identity,
        level=arm_fields.get("level"),
        source=arm_fields.get("source"),
        question=str(arm_fields.get("question") or ""),
        answer=str(arm_fields.get("answer") or ""),
        arm_score=float(arm_scores.mean()),
        baseline_score=float(baseline_scores.mean()),
        arm_completion=_completion(arm_fields, right=up),
        baseline_completion=_completion(baseline_fields, right=not up),
    )


def _cells(run: ArmRun, name: str, identity: str) -> dict[str, Any]:
    cells: dict[str, Any] = take_ids(run.evaluations[name].rows, [identity]).to_pylist()[0]
    return cells


def _completion(cells: dict[str, Any], *, right: bool) -> str | None:
    """The first sample with this verdict, else the first sample."""
    completions, verdicts = cells.get("completions") or [], cells.get("verdicts") or []
    for text, verdict in zip(completions, verdicts, strict=False):
        if (verdict == "right") is right:
            return str(text)
    return str(completions[0]) if completions else None
