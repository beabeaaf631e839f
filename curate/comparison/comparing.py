"""`compare`: runs of several arms against a baseline, seed by seed and example by example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from curate.comparison.bootstrap import pigeonhole_interval
from curate.comparison.cost import arm_facts, settings_notes
from curate.comparison.curves import Curve, curves_of
from curate.comparison.outcomes import Outcome, outcomes
from curate.comparison.runs import ArmRun, Groups, budget_name, group_runs, read_runs
from curate.comparison.statistics import detectable_effect, holm, paired_interval
from curate.comparison.values import Metric, SetValues, collect
from curate.display import one_line
from curate.errors import InputError

__all__ = ["Comparison", "compare", "is_better"]

DEFAULT_BASELINE = "original"
MOST_LABELS = 30  # levels or sources of one set
LEAST_EXAMPLES = 5  # fewer of a level or source say nothing
_ALL = slice(None)


@dataclass(frozen=True)
class Comparison:
    """record: what comparison.json holds; curves: training curves of the runs; outcomes: examples won and lost."""

    record: dict[str, Any]
    curves: tuple[Curve, ...]
    outcomes: tuple[Outcome, ...]

    def to_json(self) -> dict[str, Any]:
        """What comparison.json holds."""
        return self.record

    def write(self, report: Path) -> None:
        """Write the page `report` (.html), and comparison.json beside it."""
        from curate.comparison.page import write_comparison

        write_comparison(self, report)

    @property
    def primary(self) -> list[dict[str, Any]]:
        """The differences that the comparison was made for: one per arm and budget."""
        return [each for each in self.record["differences"] if each["primary"]]


def is_better(metric: str, difference: float) -> bool:
    """Whether this difference is a gain: more accuracy, fewer nats."""
    return difference < 0 if metric == "nll" else difference > 0


def compare(
    runs: Sequence[Path | str], baseline: str | None = None, *, seed: int = 0, resamples: int = 2000
) -> Comparison:
    """Runs of `curate finetune`, evaluated by `curate evaluate`, against those of the baseline arm.

    runs: folders. baseline: arm; None = "original". seed, resamples: of the bootstrap that is shown beside.
    Arms are compared within each budget (equal steps, equal epochs), over the seeds that both have. The primary
    outcome is the pooled accuracy, or the pooled nll where nothing was generated; the rest is exploratory.

    InputError: see `curate.comparison.runs` and `curate.comparison.values`; and arms without a common seed.
    """
    read = read_runs(runs)
    name = DEFAULT_BASELINE if baseline is None else baseline
    groups, notes = group_runs(read, name)
    used = {run.place: run for members in groups.values() for seeds in members.values() for run in seeds.values()}
    values = collect(list(used.values()))
    primary: Metric = "accuracy" if "accuracy" in values else "nll"
    notes += _left_out(values) + settings_notes(groups, name)
    differences: list[dict[str, Any]] = []
    breakdown: dict[str, list[dict[str, Any]]] = {"levels": [], "sources": []}
    for budget, members in groups.items():
        for arm in members:
            if arm == name:
                continue
            pair = _paired(members[arm], members[name], budget, notes)
            named = {"arm": arm, "baseline": name, "budget": budget}
            differences += [{**named, **each} for each in _differences(*pair, values, primary, seed, resamples)]
            for kind, listed in breakdown.items():
                listed += [{**named, **each} for each in _breakdown(*pair, values, kind)]
    _adjust(differences)
    first = next(iter(used.values()))
    record = {
        "kind": "comparison",
        "version": _version(),
        "baseline": name,
        "primary": {"set": "pooled", "metric": primary},
        "model": {key: first.record["model"].get(key) for key in ("name", "identity", "parameters", "trainable")},
        "arms": arm_facts(groups, name, [each for each in differences if each["primary"]]),
        "sets": _sets(values),
        "scores": _scores(groups, values),
        "differences": differences,
        **breakdown,
        "comparisons": len(differences) + sum(map(len, breakdown.values())),
        "notes": list(dict.fromkeys(notes)),
    }
    return Comparison(record, curves_of(groups), outcomes(groups, name, values, primary))


def _version() -> str:
    try:
        return metadata.version("curate-lm")
    except metadata.PackageNotFoundError:
        return "(source tree)"


def _paired(
    arm: dict[int, ArmRun], baseline: dict[int, ArmRun], budget: str | None, notes: list[str]
) -> tuple[list[ArmRun], list[ArmRun]]:
    """Runs of both arms in the order of their common seeds."""
    common = sorted(set(arm) & set(baseline))
    one, other = (one_line(next(iter(each.values())).arm) for each in (arm, baseline))
    if not common:
        raise InputError(
            f"arms {one!r} (seeds {_listed(arm)}) and {other!r} (seeds {_listed(baseline)}) at {budget_name(budget)} "
            "have no seed in common; fine-tune both with the same seeds"
        )
    if set(arm) != set(baseline):
        notes.append(
            f"{one} has seeds {_listed(arm)} and {other} {_listed(baseline)} at {budget_name(budget)}: their "
            f"difference is over the seeds both have ({_listed(common)})."
        )
    if len(common) == 1:
        notes.append(
            f"{one} and {other} share one seed at {budget_name(budget)}: how much seeds differ is unknown, and the "
            "interval is over examples only, so the truth is less certain than it says."
        )
    return [arm[each] for each in common], [baseline[each] for each in common]


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _left_out(values: dict[Metric, list[SetValues]]) -> list[str]:
    return [
        f"{each.left_out:,} examples of {one_line(each.name)} are left out of {metric}: not every run has them."
        for metric, sets in values.items()
        for each in sets
        if each.left_out
    ]


def _differences(
    arm: list[ArmRun],
    baseline: list[ArmRun],
    values: dict[Metric, list[SetValues]],
    primary: Metric,
    seed: int,
    resamples: int,
) -> list[dict[str, Any]]:
    """For each metric: all sets together, their plain mean where it is another number, and each set."""
    rows = []
    for metric, sets in values.items():
        wholes: list[tuple[str, list[SetValues], list[float] | None]] = [("pooled", sets, None)]
        if len({len(each.ids) for each in sets}) > 1:
            wholes.append(("mean of sets", sets, [1.0] * len(sets)))
        for name, chosen, shares in [*wholes, *((each.name, [each], None) for each in sets)]:
            tables = [each.table(arm) for each in chosen], [each.table(baseline) for each in chosen]
            more: dict[str, Any] = {"weights": [each.weights_of() for each in chosen], "shares": shares}
            row = _row(name, metric, *tables, **more)
            found = detectable_effect(tables[1], tables[0], discrete=metric == "accuracy", **more)
            low, high = pigeonhole_interval(*tables, seed=seed, resamples=resamples, **more)
            row |= {"detectable": found.absolute, "detectable_relative": found.relative}
            row |= {"bootstrap_low": low, "bootstrap_high": high}
            rows.append({**row, "primary": name == "pooled" and metric == primary})
    return rows


def _row(name: str, metric: Metric, arm: Any, baseline: Any, **more: Any) -> dict[str, Any]:
    found = paired_interval(arm, baseline, discrete=metric == "accuracy", **more)
    verdict = "no evidence"
    if not found.low <= 0 <= found.high:
        verdict = "better" if is_better(metric, found.difference) else "worse"
    return {
        "set": name,
        "metric": metric,
        "baseline_mean": found.baseline_mean,
        "arm_mean": found.arm_mean,
        "difference": found.difference,
        "relative": found.relative,
        "low": found.low,
        "high": found.high,
        "relative_low": found.relative_low,
        "relative_high": found.relative_high,
        "p": found.p,
        "verdict": verdict,
        "primary": False,
        "seeds": found.seeds,
        "examples": found.examples,
    }


def _adjust(differences: list[dict[str, Any]]) -> None:
    """p values adjusted within the primary outcomes, and within all others."""
    for family in (True, False):
        rows = [each for each in differences if each["primary"] is family]
        for row, adjusted in zip(rows, holm([each["p"] for each in rows]), strict=True):
            row["p_holm"] = adjusted


def _breakdown(
    arm: list[ArmRun], baseline: list[ArmRun], values: dict[Metric, list[SetValues]], kind: str
) -> list[dict[str, Any]]:
    """The difference for each level, or source, of each set that has several."""
    rows = []
    for metric, sets in values.items():
        for each in sets:
            labels = each.levels if kind == "levels" else each.sources
            if labels is None:
                continue
            array = np.array(["not given" if label is None else label for label in labels])
            names, counts = np.unique(array, return_counts=True)
            large = sorted(zip(-counts, names.tolist(), strict=True))[:MOST_LABELS]
            for name in sorted((name for count, name in large if -count >= LEAST_EXAMPLES), key=_natural):
                chosen = array == name
                row = _row(
                    each.name,
                    metric,
                    each.table(arm, chosen),
                    each.table(baseline, chosen),
                    weights=each.weights_of(chosen),
                )
                rows.append({kind.removesuffix("s"): name, **row})
    return rows


def _natural(label: str) -> tuple[Any, ...]:
    """Level 10 after level 9."""
    digits = "".join(each for each in label if each.isdigit())
    return (label.rstrip("0123456789"), int(digits) if digits else -1, label)


def _sets(values: dict[Metric, list[SetValues]]) -> list[dict[str, Any]]:
    """Each set with its examples and its weight in the pooled numbers, by metric."""
    return [
        {"set": each.name, "metric": metric, "examples": len(each.ids), "weight": len(each.ids) / total}
        for metric, sets in values.items()
        for total in [sum(len(other.ids) for other in sets)]
        for each in sets
    ]


def _scores(groups: Groups, values: dict[Metric, list[SetValues]]) -> list[dict[str, Any]]:
    """What every arm scored: the mean over its seeds, each seed's own, and their standard deviation."""
    rows = []
    for budget, members in groups.items():
        for arm, by_seed in members.items():
            for metric, sets in values.items():
                single = [np.average(each.table(by_seed.values()), axis=1, weights=each.weights) for each in sets]
                sizes = [len(each.ids) for each in sets]
                pooled = np.average(single, axis=0, weights=sizes)
                for name, means in [("pooled", pooled), *zip((each.name for each in sets), single, strict=True)]:
                    row = {"arm": arm, "budget": budget, "set": name, "metric": metric}
                    spread = {
                        "mean": float(means.mean()),
                        "by_seed": dict(zip(map(str, by_seed), means.tolist(), strict=True)),
                        "deviation": float(means.std(ddof=1)) if len(means) > 1 else None,
                    }
                    rows.append({**row, **spread})
    return rows
