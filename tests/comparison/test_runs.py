"""Runs that may be compared: of one budget, length, model and set, or told apart and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.cli.main import main
from curate.comparison.compare import compare
from curate.errors import InputError
from curate.storage.records import record_text
from tests.fixtures.studies import write_evaluation, write_run, write_study


# -- what stands beside what ------------------------------------------------------------------------------------------
def test_budgets_are_compared_apart(tmp_path: Path) -> None:
    arms = {"original": 0.0, "hard": 0.5}
    runs = write_study(tmp_path, arms, seeds=2, sets={"a": 20}, budgets=("epochs", "steps"))
    found = compare(runs)
    assert [each["budget"] for each in found.primary] == ["steps", "epochs"]


@pytest.mark.parametrize(
    ("budget", "training", "says"),
    [
        ("steps", {"steps": 400}, "equal steps, but one took 200 steps and the other 400"),
        ("epochs", {"steps": 200, "epochs": 2.5}, "equal epochs, but one took 3 epochs and the other 2.5"),
    ],
)
def test_runs_that_were_not_given_their_budget_are_refused(
    budget: str, training: dict[str, Any], says: str, tmp_path: Path
) -> None:
    runs = write_study(tmp_path, {"original": 0.0}, seeds=1, sets={"a": 20}, budgets=(budget,))
    run = write_run(tmp_path / "longer", "hard", 0, budget=budget, training=training)
    write_evaluation(run, "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
    with pytest.raises(InputError, match=says):
        compare([*runs, run])


def test_epochs_are_equal_up_to_half_a_step(tmp_path: Path) -> None:
    runs = []
    for arm, training in (("original", {"steps": 12, "epochs": 0.96}), ("hard", {"steps": 17, "epochs": 1.02})):
        runs.append(write_run(tmp_path / arm, arm, 0, budget="epochs", training=training))
        write_evaluation(runs[-1], "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
    assert compare(runs).primary[0]["budget"] == "epochs"


def test_a_run_counts_at_every_budget_that_it_meets(tmp_path: Path) -> None:
    """`hard` took the steps that everybody took, in the epochs that the original takes by epochs."""
    runs = write_study(tmp_path / "steps", {"original": 0.0, "hard": 0.5}, seeds=2, sets={"a": 20})
    for seed in (0, 1):
        training = {"steps": 140, "epochs": 2.5}
        run = write_run(tmp_path / f"epochs-{seed}", "original", seed, budget="epochs", training=training)
        write_evaluation(run, "a", np.arange(20) % 2.0, np.ones(20), sources=["a"] * 20)
        runs.append(run)
    found = compare(runs)
    rows = [each for each in found.record["differences"] if (each["set"], each["metric"]) == ("pooled", "accuracy")]
    assert [(each["arm"], each["budget"]) for each in rows] == [("hard", "steps"), ("hard", "epochs")]
    assert [each["budget"] for each in found.primary] == ["steps"]  # once in the family
    assert any("count at equal epochs too" in note for note in found.record["notes"])


def test_models_are_told_apart_by_their_weights_and_notes_come_once(tmp_path: Path) -> None:
    """The scratch models of a validation have a path for each seed; three arms that differ alike are one line."""
    runs = []
    for arm in ("original", "hard", "random", "easy"):
        for seed in (0, 1):
            settings = {"model": f"out/scratch/seed{seed}", "learning_rate": 1.0 if arm == "original" else 2.0}
            runs.append(
                write_run(
                    tmp_path / f"{arm}{seed}", arm, seed, settings=settings, name=settings["model"], identity=f"w{seed}"
                )
            )
            write_evaluation(runs[-1], "a", [1.0, 0.0] * 9)
    training = {"steps": 140, "epochs": 2.5}
    for seed in (0, 1):
        run = write_run(
            tmp_path / f"epochs-{seed}",
            "original",
            seed,
            budget="epochs",
            training=training,
            settings={"learning_rate": 1.0},
            name=f"out/scratch/seed{seed}",
            identity=f"w{seed}",
        )
        write_evaluation(run, "a", [1.0, 0.0] * 9)
        runs.append(run)
    notes = compare(runs).record["notes"]
    assert notes == [
        "The runs of hard, random, easy count at equal epochs too: they match that budget.",
        "Arms hard, random, easy differ from original in more than the data: learning_rate.",
    ]


@pytest.mark.parametrize(
    ("identity", "name", "allowed"),
    [
        ("scratch:drawn", lambda seed: "scratch", True),
        ("files:drawn", lambda seed: f"out/scratch/seed{seed}", True),
        ("files:drawn", lambda seed: f"out/scratch/seed{seed + 1}", False),
        ("files:drawn", lambda seed: "base", False),
    ],
)
def test_models_made_from_scratch_differ_by_seed_alone(
    tmp_path: Path, identity: str, name: Callable[[int], str], allowed: bool
) -> None:
    runs = []
    for arm in ("original", "hard"):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed, identity=f"{identity}-{seed}", name=name(seed)))
            write_evaluation(runs[-1], "a", [1.0, 0.0] * 9)
    if allowed:
        assert compare(runs).primary[0]["seeds"] == 2
    else:
        with pytest.raises(InputError, match=r"original0 fine-tuned .* and .*original1 .*; compare runs of one model"):
            compare(runs)


def test_sets_that_not_all_runs_have_are_left_out_and_told(small: list[Path]) -> None:
    write_evaluation(small[0], "math", [1.0, 0.0], [1.0, 1.0])
    found = compare(small)
    assert {each["set"] for each in found.record["sets"]} == {"gsm8k"}
    assert any(note.startswith("Evaluation set math is left out: ") for note in found.record["notes"])


def test_only_the_asked_sets_are_compared(study: list[Path], capsys: Any) -> None:
    found = compare(study, sets=["math"])
    assert {each["set"] for each in found.record["sets"]} == {"math"}
    assert found.record["notes"] == []
    assert found.primary[0]["examples"] == 60
    assert main(["compare", *map(str, study), "--sets", "math, gsm8k", "--json"]) == 0
    assert {each["set"] for each in json.loads(capsys.readouterr().out)["sets"]} == {"math", "gsm8k"}
    with pytest.raises(InputError, match=r"was not evaluated on 'other'; .* has gsm8k, math\)"):
        compare(study, sets=["math", "other"])
    with pytest.raises(InputError, match="sets is empty"):
        compare(study, sets=[])


# -- bad input --------------------------------------------------------------------------------------------------------
def _unfinished(runs: list[Path]) -> list[Path]:
    (runs[1] / "run.json").rename(runs[1] / ".run.json.unfinished")
    return runs


def _not_evaluated(runs: list[Path]) -> list[Path]:
    shutil.rmtree(runs[2] / "evaluation")
    return runs


def _set_missing(runs: list[Path]) -> list[Path]:
    (runs[0] / "evaluation" / "gsm8k").rename(runs[0] / "evaluation" / "math")
    summary = runs[0] / "evaluation" / "math" / "summary.json"
    summary.write_text(record_text({**json.loads(summary.read_text()), "name": "math"}))
    return runs


def _rewritten(runs: list[Path], **changed: Any) -> list[Path]:
    shutil.rmtree(runs[0] / "evaluation")
    accuracy = changed.pop("values", [1.0] * 20)
    write_evaluation(runs[0], "gsm8k", accuracy, changed.pop("nll", [1.0] * 20), **changed)
    return runs


def _other_model(runs: list[Path]) -> list[Path]:
    other = write_run(runs[0].parent / "other", "easy", 0, identity="weights-b")
    shutil.copytree(runs[0] / "evaluation", other / "evaluation")
    return [*runs, other]


def _same_seed(runs: list[Path]) -> list[Path]:
    return [*runs, Path(shutil.copytree(runs[0], runs[0].parent / "copy"))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda runs: runs[:2], "all 2 runs are of arm original; give runs of at least one more arm"),
        (lambda runs: runs[:1], "all 1 runs are of arm original"),
        (lambda runs: runs[2:], "no run is of the baseline arm 'original'; name one with --baseline: hard"),
        (lambda runs: [runs[0], runs[3]], "have no seed in common"),
        (lambda runs: [*runs, runs[0].parent / "nothing"], "nothing holds no fine-tuning run"),
        (_unfinished, "original-steps-seed1 is not finished"),
        (_not_evaluated, "hard-steps-seed0 was not evaluated; run `curate evaluate"),
        (_set_missing, "there is no evaluation set that all runs have"),
        (_other_model, "compare runs of one model"),
        (_same_seed, "are both seed 0 of arm 'original'"),
        (lambda runs: _rewritten(runs, protocol="q"), "in different ways"),
        (lambda runs: _rewritten(runs, example_id=[f"x-{i}" for i in range(20)]), "share no example of 'gsm8k'"),
        (lambda runs: _rewritten(runs, example_id=["q-0000"] * 20), "holds an example id twice"),
        (
            lambda runs: _rewritten(runs, values=[float("nan")] * 20),
            "accuracy of example q-0000 is not a finite number",
        ),
        (
            lambda runs: _rewritten(runs, nll=[1.0] * 19 + [float("inf")]),
            "nll of example q-0019 is not a finite number",
        ),
        (lambda runs: _rewritten(runs, values=None), "has no accuracy on 'gsm8k'"),
        (lambda runs: _rewritten(runs, nll_tokens=pa.array([3] * 20, pa.int32())), "count the tokens"),
    ],
)
def test_what_cannot_be_compared_is_named(small: list[Path], change: Callable[..., list[Path]], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        compare(change(small))
    assert "\n" not in str(error.value)
