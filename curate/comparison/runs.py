"""Read finished fine-tuning runs and group those that can be compared."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.console.formatting import one_line
from curate.errors import InputError
from curate.evaluation.results import EvaluationResult, read_evaluations
from curate.finetuning.config import BUDGETS
from curate.finetuning.metrics import read_metrics
from curate.finetuning.run_folder import read_run
from curate.storage.places import expanded

_BUDGETS: dict[str | None, str] = {**{budget: f"equal {budget}" for budget in BUDGETS}, None: "as run"}
MAIN_ARM = "hard"  # the treatment of interest, listed first
_SCRATCH = "scratch"  # folder of scratch models of a validation
_SAME_EPOCHS = 0.01  # whole steps cannot match whole epochs exactly
Groups = dict[str | None, dict[str, dict[int, "ArmRun"]]]  # budget -> arm -> seed -> run


@dataclass(frozen=True)
class ArmRun:
    """A finished run: place: folder as given; record: run.json, evaluations by name, lines of metrics.jsonl."""

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
    """A budget as texts name it, such as "equal steps"."""
    return _BUDGETS.get(budget, str(budget))


def read_runs(places: Sequence[Path | str], sets: Sequence[str] | None = None) -> tuple[list[ArmRun], list[str]]:
    """Comparable runs in these folders with their common evaluation sets, and notes on what is left out.

    sets: names of evaluation sets; None = those that all runs have. InputError: a run that is not finished or was not
    evaluated, two runs of one arm, budget and seed, runs of different models, a requested set that a run lacks, no
    common set, or one that was evaluated differently.
    """
    runs: list[ArmRun] = []
    for place in dict.fromkeys(str(given_place).rstrip("/") or str(given_place) for given_place in places):
        folder = expanded(place)
        record = read_run(folder)
        for key in ("arm", "seed", "model", "training"):
            if key not in record:
                raise InputError(f"{place}/run.json has no {key!r}; rewrite it with `curate finetune --fresh`")
        evaluations = read_evaluations(folder) if (folder / "evaluation").is_dir() else {}
        if not evaluations:
            word = shlex.quote(str(place))
            raise InputError(f"the run in {place} was not evaluated; run `curate evaluate {word} --data NAME=FILE`")
        runs.append(ArmRun(place, record, evaluations, read_metrics(folder / "metrics.jsonl")))
    _check_unique(runs)
    _check_models(runs)
    runs, notes = _common_sets(runs, sets)
    _check_evaluations(runs)
    return runs, notes


def _check_unique(runs: Sequence[ArmRun]) -> None:
    seen: dict[tuple[str, str | None, int], ArmRun] = {}
    for run in runs:
        earlier = seen.setdefault((run.arm, run.budget, run.seed), run)
        if earlier is not run:
            raise InputError(
                f"{earlier.place} and {run.place} are both seed {run.seed} of arm {one_line(run.arm)!r}; give each run "
                "of an arm its own seed, or leave one of them out"
            )


def _check_models(runs: Sequence[ArmRun]) -> None:
    """Check that all runs start from one model; scratch models differ by seed, so only runs of one seed must agree."""
    firsts: dict[int | None, ArmRun] = {}
    drawn_per_seed = all(map(_from_scratch, runs))
    for run in runs:
        first = firsts.setdefault(run.seed if drawn_per_seed else None, run)
        for reference, key in ((first, "identity"), (runs[0], "parameters")):
            if run.record["model"].get(key) != reference.record["model"].get(key):
                raise InputError(
                    f"{reference.place} fine-tuned {_weights(reference)} and {run.place} {_weights(run)}; compare "
                    "runs of one model"
                )


def _from_scratch(run: ArmRun) -> bool:
    """Whether the model is `--model scratch`, or one that `curate validate` initializes for each seed."""
    name, identity = (str(run.record["model"].get(key)) for key in ("name", "identity"))
    return identity.startswith("scratch:") or Path(name).parts[-2:] == (_SCRATCH, f"seed{run.seed}")


def _weights(run: ArmRun) -> str:
    return (
        f"{one_line(str(run.record['model'].get('name')))} ({one_line(str(run.record['model'].get('identity')), 20)})"
    )


def _common_sets(runs: Sequence[ArmRun], sets: Sequence[str] | None) -> tuple[list[ArmRun], list[str]]:
    """The runs with the requested sets only, or with the sets that all of them have."""
    names = list(dict.fromkeys(name for run in runs for name in run.evaluations))
    lacking = {name: run for run in runs for name in (names if sets is None else sets) if name not in run.evaluations}
    if sets is not None:
        for name in sets:
            if name in lacking:
                available = ", ".join(one_line(evaluation) for evaluation in runs[0].evaluations)
                raise InputError(
                    f"{lacking[name].place} was not evaluated on {one_line(name)!r}; run `curate evaluate "
                    f"{shlex.quote(str(lacking[name].place))}` on that set, or name others "
                    f"({runs[0].place} has {available})"
                )
    if sets is not None and not sets:
        raise InputError("sets is empty; name at least one evaluation set")
    common = [name for name in names if name not in lacking and (sets is None or name in sets)]
    if not common:
        raise InputError(
            f"there is no evaluation set that all runs have ({lacking[names[0]].place} lacks {one_line(names[0])!r}); "
            "run `curate evaluate` on the same sets for all of them"
        )
    notes = [
        f"Evaluation set {one_line(name)} is left out: {run.place} was not evaluated on it."
        for name, run in lacking.items()
    ]
    return [replace(run, evaluations={name: run.evaluations[name] for name in common}) for run in runs], notes


def _check_evaluations(runs: Sequence[ArmRun]) -> None:
    first = runs[0]
    for name, evaluation in first.evaluations.items():
        if name in ("pooled", "mean of sets", "mean of groups"):
            raise InputError(f"an evaluation set is named {name!r}, the name of all sets together; choose another name")
        for run in runs:
            if run.evaluations[name].summary.get("protocol") != evaluation.summary.get("protocol"):
                raise InputError(
                    f"{first.place} and {run.place} were evaluated on {one_line(name)!r} in different ways (data, "
                    "prompt, shots, sampling, length, or with and without math-verify); evaluate one of them again "
                    "with the settings of the other"
                )


def group_runs(runs: Sequence[ArmRun], baseline: str) -> tuple[Groups, list[str]]:
    """Runs by budget, arm and seed, and notes; budgets without the baseline are left out.

    A run counts at every budget that it matches, so an arm whose epochs make as many steps as the others took
    is run only once. InputError: no run of the baseline, no other arm, no budget that both have, or runs
    whose steps or epochs are not those of their budget.
    """
    arms = list(dict.fromkeys(run.arm for run in runs))
    arm_names = ", ".join(one_line(arm) for arm in arms)
    if baseline not in arms:
        raise InputError(f"no run is of the baseline arm {one_line(baseline)!r}; name one with --baseline: {arm_names}")
    if len(arms) < 2:
        raise InputError(
            f"all {len(runs)} runs are of arm {arm_names}; give runs of at least one more arm to compare with"
        )
    groups: Groups = {}
    for run in runs:
        groups.setdefault(run.budget, {}).setdefault(run.arm, {})[run.seed] = run
    notes = []
    for budget, members in groups.items():
        matching = {
            arm: lent for arm in arms if arm not in members and (lent := _matching_runs(groups, budget, arm, members))
        }
        members.update(matching)
        if matching:
            notes.append(
                f"The runs of {', '.join(map(one_line, matching))} count at {budget_name(budget)} too: they match that "
                "budget."
            )
    comparable: Groups = {}
    for budget in sorted(groups, key=lambda name: list(_BUDGETS).index(name) if name in _BUDGETS else len(_BUDGETS)):
        members = groups[budget]
        _check_equal(budget, members)
        if baseline in members and len(members) > 1:
            comparable[budget] = {
                arm: members[arm] for arm in sorted(members, key=lambda arm: (arm != baseline, arm != MAIN_ARM))
            }
        else:
            lone = ", ".join(one_line(arm) for arm in members)
            notes.append(f"Left out at {budget_name(budget)}: {lone}, with no arm to compare with.")
    if not comparable:
        raise InputError(
            f"at no budget are there runs of {one_line(baseline)!r} and of another arm; fine-tune both with the same "
            "number of steps, or of epochs"
        )
    return comparable, notes


def _check_equal(budget: str | None, members: dict[str, dict[int, ArmRun]]) -> None:
    """Check that the runs of a budget have equal steps or epochs: otherwise an arm could win by training longer."""
    if budget is None or budget not in BUDGETS:
        return
    runs = [run for seeds in members.values() for run in seeds.values() if run.number(budget) is not None]
    for run in runs[1:]:
        value, expected = run.number(budget) or 0.0, runs[0].number(budget) or 0.0
        # Epochs are rounded to whole steps: each run is up to half of one of its steps away.
        rounding = sum(_epochs_of_a_step(compared) for compared in (run, runs[0])) / 2
        if value != expected if budget == "steps" else abs(value - expected) > rounding + _SAME_EPOCHS * expected:
            remedy = "--steps N" if budget == "steps" else "--steps 'N epochs'"
            raise InputError(
                f"{runs[0].place} and {run.place} are recorded as {budget_name(budget)}, but one took "
                f"{expected:.4g} {budget} and the other {value:.4g}; fine-tune both with the same {remedy}, or without "
                "--budget"
            )


def _epochs_of_a_step(run: ArmRun) -> float:
    steps = run.number("steps")
    return (run.number("epochs") or 0.0) / steps if steps else 0.0


def _matching_runs(
    groups: Groups, budget: str | None, arm: str, members: dict[str, dict[int, ArmRun]]
) -> dict[int, ArmRun] | None:
    """Runs of `arm` made for another budget with the steps or epochs of this one."""
    if budget is None or budget not in BUDGETS:
        return None
    lengths = [run.number(budget) for member in members.values() for run in member.values() if run.budget == budget]
    for other_budget, other_members in groups.items():
        if other_budget == budget or arm not in other_members:
            continue
        runs = {seed: run for seed, run in other_members[arm].items() if run.budget == other_budget}
        values = [run.number(budget) for run in runs.values()]
        if runs and all(a is not None and b is not None and _meets(budget, a, b) for a in values for b in lengths):
            return runs
    return None


def _meets(budget: str, value: float, length: float) -> bool:
    return value == length if budget == "steps" else abs(value - length) <= _SAME_EPOCHS * length
