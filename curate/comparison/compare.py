"""Compare evaluated runs of several arms with a baseline, paired by seed and example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.comparison.cost import arm_facts, settings_notes
from curate.comparison.differences import BALANCED, POOLED, adjust, difference_rows, label_rows, parts_of
from curate.comparison.figures import Curve, curves_of, forest
from curate.comparison.outcomes import Outcome, outcomes
from curate.comparison.page import to_draw, write_comparison
from curate.comparison.paired_scores import Metric, SetValues, collect
from curate.comparison.runs import MAIN_ARM, ArmRun, Groups, budget_name, group_runs, read_runs
from curate.comparison.side_by_side import side_by_side
from curate.comparison.text import headline, interval, signed
from curate.console.formatting import one_line
from curate.console.presentation import Facts, Presented
from curate.difficulty.panels import shown
from curate.errors import InputError
from curate.storage.records import own_version

_MOST_LISTED = 10  # differences in a summary
CONTROLS = ("random", "random-matched", "easy", "source-balanced")  # as many extra rows as MAIN_ARM, chosen differently


@dataclass(frozen=True, repr=False)
class Comparison(Presented):
    """record: what comparison.json holds; curves: training curves of the runs; outcomes: examples won and lost."""

    record: dict[str, Any]
    curves: tuple[Curve, ...]
    outcomes: tuple[Outcome, ...]

    def to_json(self) -> dict[str, Any]:
        """What comparison.json holds."""
        return self.record

    def write(self, report: Path) -> None:
        """Write the page `report` (.html), and comparison.json beside it."""
        write_comparison(self.record, self.curves, self.outcomes, report)

    def summary(self) -> Facts:
        """The headline and the primary differences."""
        title, sentences = headline(self.record)
        facts = [("", sentence) for sentence in sentences[:3]]
        for difference in self.primary[:_MOST_LISTED]:
            metric = difference["metric"]
            mean = signed(metric, difference["difference"])
            text = f"{mean} ({interval(metric, difference)}), {difference['verdict']}"
            facts.append((difference["arm"], f"{text}; {budget_name(difference['budget'])}"))
        return Facts(title, tuple(facts))

    def to_pandas(self) -> Any:
        """All computed differences as a pandas.DataFrame."""
        return pa.Table.from_pylist(self.record["differences"]).to_pandas()

    def plot(self) -> Any:
        """A plotly Figure of the primary differences to the baseline with their intervals."""
        metric = self.record["primary"]["metric"]
        rows, _ = to_draw(self.record, metric)
        plot, height = forest(rows, metric, budgets=len({row["budget"] for row in rows}) > 1)
        return shown(plot, height)

    @property
    def primary(self) -> list[dict[str, Any]]:
        """The primary differences: one per arm and budget that it was run for."""
        return [difference for difference in self.record["differences"] if difference["primary"]]


def compare(
    runs: Sequence[Path | str],
    baseline: str | None = None,
    *,
    sets: Sequence[str] | None = None,
    warnings: Sequence[str] = (),
) -> Comparison:
    """Runs of `curate finetune`, evaluated by `curate evaluate`, against those of the baseline arm.

    runs: folders. baseline: arm; None = "original". sets: names of evaluation sets; None = all that every run has.
    warnings: known before the comparison, shown with the result.
    Arms are compared within each budget (equal steps, equal epochs), over the seeds that both have. The primary
    outcome is the pooled accuracy, or the pooled nll where nothing was generated or all answers agree; the rest is
    exploratory. The arm "hard" is also compared with each control arm.
    InputError: see `curate.comparison.runs` and `curate.comparison.paired_scores`; and arms without a common seed.
    """
    read, notes = read_runs(runs, sets)
    name = "original" if baseline is None else baseline
    groups, more = group_runs(read, name)
    used = {run.place: run for members in groups.values() for seeds in members.values() for run in seeds.values()}
    values = collect(list(used.values()))
    primary = _primary(values, notes)
    notes += more + _left_out(values) + settings_notes(groups, name)
    differences: list[dict[str, Any]] = []
    breakdown: dict[str, list[dict[str, Any]]] = {"levels": [], "sources": []}
    for budget, members in groups.items():
        for arm in members:
            if arm == name:
                continue
            pair = _paired(members[arm], members[name], budget, notes)
            pair_names = {"arm": arm, "baseline": name, "budget": budget}
            was_run = _asked(groups, arm, budget)
            for row in difference_rows(*pair, values):
                chief = was_run and row["set"] == "pooled" and row["metric"] == primary
                differences.append({**pair_names, **row, "primary": chief})
            for kind, listed in breakdown.items():
                listed += [{**pair_names, **row} for row in label_rows(*pair, values, kind)]
    against = _against_controls(groups, name, values, notes)
    controls = [row for row in against if row["set"] == POOLED]
    for primary_too in (True, False):
        adjust([difference for difference in differences if difference["primary"] is primary_too])
    adjust(controls)
    record = {
        "kind": "comparison",
        "version": own_version(),
        "baseline": name,
        "primary": {"set": "pooled", "metric": primary},
        "model": {key: read[0].record["model"].get(key) for key in ("name", "identity", "parameters", "trainable")},
        "arms": arm_facts(groups, name, primary, differences),
        "sets": _sets(values),
        "scores": _scores(groups, values),
        "differences": differences,
        "against_controls": controls,
        "side_by_side": side_by_side([*differences, *against]),
        **breakdown,
        "comparisons": len(differences) + len(controls) + sum(map(len, breakdown.values())),
        "warnings": list(dict.fromkeys(warnings)),
        "notes": list(dict.fromkeys(notes)),
    }
    return Comparison(record, curves_of(groups), outcomes(groups, name, values, primary))


def _against_controls(
    groups: Groups,
    baseline: str,
    values: dict[Metric, list[SetValues]],
    notes: list[str],
) -> list[dict[str, Any]]:
    """Compare the main arm with each control arm at the same budget, on all sets together, pooled and balanced."""
    rows = []
    for budget, members in groups.items():
        main = {} if baseline == MAIN_ARM else members.get(MAIN_ARM, {})
        for control in CONTROLS:
            if control != baseline and set(members.get(control, {})) & set(main):
                pair = _paired(main, members[control], budget, notes)
                pair_names = {"arm": MAIN_ARM, "baseline": control, "budget": budget}
                rows += [{**pair_names, **row} for row in difference_rows(*pair, values, whole_only=True)]
    return rows


def _primary(values: dict[Metric, list[SetValues]], notes: list[str]) -> Metric:
    """The metric of the primary outcome: accuracy, unless it cannot distinguish the arms."""
    if "accuracy" not in values:
        return "nll"
    columns = [column for scores in values["accuracy"] for column in scores.values.values()]
    different = {float(accuracy) for column in columns for accuracy in set(column)}
    if len(different) > 1 or "nll" not in values:
        return "accuracy"
    notes.append(
        f"Every answer of every run came out alike (accuracy {100 * different.pop():.0f} %), which cannot distinguish "
        "the arms: the primary outcome is the loss on the reference answers (nll)."
    )
    return "nll"


def _asked(groups: Groups, arm: str, budget: str | None) -> bool:
    """Whether an arm was run for this budget; an arm run for none of the budgets counts at the first."""
    standing = [name for name, members in groups.items() if arm in members]
    own = [name for name in standing if any(run.budget == name for run in groups[name][arm].values())]
    return budget in (own or standing[:1])


def _paired(
    arm: dict[int, ArmRun], baseline: dict[int, ArmRun], budget: str | None, notes: list[str]
) -> tuple[list[ArmRun], list[ArmRun]]:
    """The runs of both arms whose seeds both have, in the order of those seeds."""
    common = sorted(set(arm) & set(baseline))
    arm_name, baseline_name = (one_line(next(iter(runs.values())).arm) for runs in (arm, baseline))
    if not common:
        raise InputError(
            f"arms {arm_name!r} (seeds {_listed(arm)}) and {baseline_name!r} (seeds {_listed(baseline)}) at "
            f"{budget_name(budget)} have no seed in common; fine-tune both with the same seeds"
        )
    if set(arm) != set(baseline):
        notes.append(
            f"{arm_name} has seeds {_listed(arm)} and {baseline_name} {_listed(baseline)} at {budget_name(budget)}: "
            f"their difference is over the seeds both have ({_listed(common)})."
        )
    if len(common) == 1:
        notes.append(
            "Where two arms share one seed, the variance between seeds is unknown: the intervals are over examples "
            "only, too narrow, and there is no verdict."
        )
    return [arm[seed] for seed in common], [baseline[seed] for seed in common]


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _left_out(values: dict[Metric, list[SetValues]]) -> list[str]:
    return [
        f"{of_set.left_out:,} examples of {one_line(of_set.name)} are left out of {metric}: not every run has them."
        for metric, sets in values.items()
        for of_set in sets
        if of_set.left_out
    ]


def _sets(values: dict[Metric, list[SetValues]]) -> list[dict[str, Any]]:
    """Each set with its number of examples and its weight in the pooled numbers, by metric."""
    return [
        {
            "set": evaluation_set.name,
            "metric": metric,
            "examples": len(evaluation_set.ids),
            "weight": len(evaluation_set.ids) / total,
        }
        for metric, sets in values.items()
        for total in [sum(len(scores.ids) for scores in sets)]
        for evaluation_set in sets
    ]


def _scores(groups: Groups, values: dict[Metric, list[SetValues]]) -> list[dict[str, Any]]:
    """Scores of every arm: the mean over its seeds, each seed's score, and their standard deviation."""
    rows = []
    for budget, members in groups.items():
        for arm, by_seed in members.items():
            for metric, sets in values.items():
                single = [
                    np.average(evaluation_set.table(by_seed.values()), axis=1, weights=evaluation_set.weights)
                    for evaluation_set in sets
                ]
                sizes = [len(evaluation_set.ids) for evaluation_set in sets]
                pooled = np.average(single, axis=0, weights=sizes)
                wholes = [(POOLED, pooled)]
                parts = [(evaluation_set, part) for evaluation_set in sets for part in parts_of(evaluation_set)]
                if len(parts) > len(sets):
                    means_of_parts = [
                        np.average(scores.table(by_seed.values(), part), axis=1, weights=scores.weights_of(part))
                        for scores, part in parts
                    ]
                    wholes.append((BALANCED, np.mean(means_of_parts, axis=0)))
                for name, means in [
                    *wholes,
                    *zip((evaluation_set.name for evaluation_set in sets), single, strict=True),
                ]:
                    row = {"arm": arm, "budget": budget, "set": name, "metric": metric}
                    spread = {
                        "mean": float(means.mean()),
                        "by_seed": dict(zip(map(str, by_seed), means.tolist(), strict=True)),
                        "deviation": float(means.std(ddof=1)) if len(means) > 1 else None,
                    }
                    rows.append({**row, **spread})
    return rows
