"""Finished fine-tuning runs read for a comparison: which of them may be compared, and which stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.console.formatting import one_line
from curate.errors import InputError
from curate.evaluation.results import EvaluationResult, read_evaluations
from curate.finetuning.metrics import read_metrics
from curate.finetuning.run_folder import read_run
from curate.storage.places import expanded

__all__ = ["BUDGETS", "MAIN_ARM", "ArmRun", "Groups", "budget_name", "group_runs", "read_runs"]

BUDGETS = {"steps": "equal steps", "epochs": "equal epochs", None: "as run"}
MAIN_ARM = "hard"  # what everything is about: first wherever it is there
_MEASURED_BY = {"steps": "steps", "epochs": "epochs"}
_SCRATCH = "scratch"  # folder of the models that a validation makes
_SAME_EPOCHS = 0.01  # whole steps cannot hit whole epochs exactly
Groups = dict[str | None, dict[str, dict[int, "ArmRun"]]]  # budget -> arm -> seed -> run


@dataclass(frozen=True)
class ArmRun:
    """A finished run: place as it was named, record as in run.json, evaluations by name, lines of metrics.jsonl."""

    place: str
    record: dict[str, Any]
    evaluations: Mapping[str, EvaluationResult]
    metrics: Sequence[Mapping[str, Any]]

    @property
    def arm(self) -> str:
        return str(self.record["arm"])

    @property
    def budget(self) -> str | None:
        budget: str | None = self.record.get("budget")
        return budget

    @property
    def seed(self) -> int:
        return int(self.record["seed"])

    def number(self, name: str) -> float | None:
        """A number of run.json's training part."""
        value = self.record.get("training", {}).get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def budget_name(budget: str | None) -> str:
    return BUDGETS.get(budget, str(budget))


def read_runs(places: Sequence[Path | str], sets: Sequence[str] | None = None) -> tuple[list[ArmRun], list[str]]:
    """The runs in these folders, checked to be comparable, with the evaluation sets that are; and notes on the others.

    sets: names of evaluation sets; None = those that all runs have. InputError: a run that is not finished or was not
    evaluated, two runs of one arm, budget and seed, runs of different models, an asked set that a run lacks, no set
    that all have, or one that was evaluated in another way.
    """
    runs: list[ArmRun] = []
    for place in dict.fromkeys(str(each).rstrip("/") or str(each) for each in places):
        folder = expanded(place)
        record = read_run(folder)
        for key in ("arm", "seed", "model", "training"):
            if key not in record:
                raise InputError(f"{place}/run.json has no {key!r}; write it again with `curate finetune --fresh`")
        found = read_evaluations(folder) if (folder / "evaluation").is_dir() else {}
        if not found:
            raise InputError(f"the run in {place} was not evaluated; run `curate evaluate {place} --data NAME=FILE`")
        runs.append(ArmRun(place, record, found, read_metrics(folder / "metrics.jsonl")))
    _check_unique(runs)
    _check_models(runs)
    runs, notes = _common_sets(runs, sets)
    _check_evaluations(runs)
    return runs, notes


def _check_unique(runs: Sequence[ArmRun]) -> None:
    seen: dict[tuple[str, str | None, int], ArmRun] = {}
    for run in runs:
        other = seen.setdefault((run.arm, run.budget, run.seed), run)
        if other is not run:
            raise InputError(
                f"{other.place} and {run.place} are both seed {run.seed} of arm {one_line(run.arm)!r}; give each run "
                "of an arm its own seed, or leave one of them out"
            )


def _check_models(runs: Sequence[ArmRun]) -> None:
    """One model; where it is made from scratch, each seed draws other weights, so only those of a seed must agree."""
    firsts: dict[int | None, ArmRun] = {}
    by_seed = all(map(_from_scratch, runs))
    for run in runs:
        first = firsts.setdefault(run.seed if by_seed else None, run)
        for other, key in ((first, "identity"), (runs[0], "parameters")):
            if run.record["model"].get(key) != other.record["model"].get(key):
                raise InputError(
                    f"{other.place} fine-tuned {_weights(other)} and {run.place} {_weights(run)}; compare runs of one "
                    "model"
                )


def _from_scratch(run: ArmRun) -> bool:
    """By `curate finetune --model scratch`, or with the weights that `curate validate` makes for each seed."""
    name, identity = (str(run.record["model"].get(key)) for key in ("name", "identity"))
    return identity.startswith("scratch:") or Path(name).parts[-2:] == (_SCRATCH, f"seed{run.seed}")


def _weights(run: ArmRun) -> str:
    return (
        f"{one_line(str(run.record['model'].get('name')))} ({one_line(str(run.record['model'].get('identity')), 20)})"
    )


def _common_sets(runs: Sequence[ArmRun], sets: Sequence[str] | None) -> tuple[list[ArmRun], list[str]]:
    """The runs with the asked sets alone, or with those that all have."""
    names = list(dict.fromkeys(name for run in runs for name in run.evaluations))
    lacking = {name: run for run in runs for name in (names if sets is None else sets) if name not in run.evaluations}
    if sets is not None:
        for name in sets:
            if name in lacking:
                shown = ", ".join(one_line(each) for each in runs[0].evaluations)
                raise InputError(
                    f"{lacking[name].place} was not evaluated on {one_line(name)!r}; run `curate evaluate "
                    f"{lacking[name].place}` on that set, or name others ({runs[0].place} has {shown})"
                )
    if sets is not None and not sets:
        raise InputError("sets is empty; name at least one evaluation set")
    kept = [name for name in names if name not in lacking and (sets is None or name in sets)]
    if not kept:
        raise InputError(
            f"there is no evaluation set that all runs have ({lacking[names[0]].place} lacks {one_line(names[0])!r}); "
            "run `curate evaluate` on the same sets for all of them"
        )
    notes = [
        f"Evaluation set {one_line(name)} is left out: {run.place} was not evaluated on it."
        for name, run in lacking.items()
    ]
    return [replace(run, evaluations={name: run.evaluations[name] for name in kept}) for run in runs], notes


def _check_evaluations(runs: Sequence[ArmRun]) -> None:
    having = runs[0]
    for name, found in having.evaluations.items():
        if name in ("pooled", "mean of sets"):
            raise InputError(f"an evaluation set is named {name!r}, which stands for all sets here; name it otherwise")
        for run in runs:
            if run.evaluations[name].summary.get("protocol") != found.summary.get("protocol"):
                raise InputError(
                    f"{having.place} and {run.place} were evaluated on {one_line(name)!r} in different ways (data, "
                    "prompt, shots, sampling, length, or with and without math-verify); evaluate one of them again "
                    "with the settings of the other"
                )


def group_runs(runs: Sequence[ArmRun], baseline: str) -> tuple[Groups, list[str]]:
    """Runs by budget, arm and seed, and notes on what was done; budgets without the baseline are left out.

    A run counts at every budget that it meets: the run of an arm that took the steps of the others in its own epochs
    is needed once. InputError: no run of the baseline, no other arm, no budget at which both are there, or runs
    of a budget that did not all take it.
    """
    arms = list(dict.fromkeys(run.arm for run in runs))
    shown = ", ".join(one_line(arm) for arm in arms)
    if baseline not in arms:
        raise InputError(f"no run is of the baseline arm {one_line(baseline)!r}; name one with --baseline: {shown}")
    if len(arms) < 2:
        raise InputError(f"all {len(runs)} runs are of arm {shown}; give runs of at least one more arm to compare with")
    groups: Groups = {}
    for run in runs:
        groups.setdefault(run.budget, {}).setdefault(run.arm, {})[run.seed] = run
    notes = []
    for budget, members in groups.items():
        found = {arm: lent for arm in arms if arm not in members and (lent := _lent(groups, budget, arm, members))}
        members.update(found)
        if found:
            notes.append(
                f"The runs of {', '.join(map(one_line, found))} stand at {budget_name(budget)} too: they met that "
                "budget as they were."
            )
    comparable: Groups = {}
    for budget in sorted(groups, key=lambda each: list(BUDGETS).index(each) if each in BUDGETS else len(BUDGETS)):
        members = groups[budget]
        _check_equal(budget, members)
        if baseline in members and len(members) > 1:
            comparable[budget] = {
                arm: members[arm] for arm in sorted(members, key=lambda each: (each != baseline, each != MAIN_ARM))
            }
        else:
            lone = ", ".join(one_line(arm) for arm in members)
            notes.append(f"Left out at {budget_name(budget)}: {lone}, for want of an arm to compare with.")
    if not comparable:
        raise InputError(
            f"at no budget are there runs of {one_line(baseline)!r} and of another arm; fine-tune both with the same "
            "number of steps, or of epochs"
        )
    return comparable, notes


def _check_equal(budget: str | None, members: dict[str, dict[int, ArmRun]]) -> None:
    """That the runs of a budget took what its name says they did: else an arm could win by being trained longer."""
    if budget not in _MEASURED_BY:
        return
    name = _MEASURED_BY[budget]
    runs = [run for seeds in members.values() for run in seeds.values() if run.number(name) is not None]
    for run in runs[1:]:
        value, wanted = run.number(name) or 0.0, runs[0].number(name) or 0.0
        # Of epochs whole steps are taken: each run is up to half of one of its steps away.
        rounding = sum(_epochs_of_a_step(each) for each in (run, runs[0])) / 2
        if value != wanted if name == "steps" else abs(value - wanted) > rounding + _SAME_EPOCHS * wanted:
            asked = "--steps N" if name == "steps" else "--steps 'N epochs'"
            raise InputError(
                f"{runs[0].place} and {run.place} say that they are of {budget_name(budget)}, but one took "
                f"{wanted:.4g} {name} and the other {value:.4g}; fine-tune both with the same {asked}, or without "
                "--budget"
            )


def _epochs_of_a_step(run: ArmRun) -> float:
    steps = run.number("steps")
    return (run.number("epochs") or 0.0) / steps if steps else 0.0


def _lent(
    groups: Groups, budget: str | None, arm: str, members: dict[str, dict[int, ArmRun]]
) -> dict[int, ArmRun] | None:
    """Runs of `arm` made for another budget that took what those of this one did."""
    if budget not in _MEASURED_BY:
        return None
    name = _MEASURED_BY[budget]
    wanted = [run.number(name) for each in members.values() for run in each.values() if run.budget == budget]
    for other, others in groups.items():
        if other == budget or arm not in others:
            continue
        runs = {seed: run for seed, run in others[arm].items() if run.budget == other}
        values = [run.number(name) for run in runs.values()]
        if runs and all(a is not None and b is not None and _meets(name, a, b) for a in values for b in wanted):
            return runs
    return None


def _meets(name: str, value: float, wanted: float) -> bool:
    return value == wanted if name == "steps" else abs(value - wanted) <= _SAME_EPOCHS * wanted
