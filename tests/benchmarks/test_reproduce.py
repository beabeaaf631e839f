"""The reproduction benchmark: its problems are right and kept apart, its runs are whole, and a killed one goes on."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reproduce import main
from benchmarks.reproduction.problems import FAMILIES, LEVELS, problems
from benchmarks.reproduction.settings import ARMS, FROZEN, Settings
from benchmarks.reproduction.studies import STUDIES, jobs_of, reproduction
from benchmarks.reproduction.summary import summarize
from benchmarks.reproduction.work import finished, work
from curate.errors import InputError
from curate.verify import Verdict, grade

EASY_HEAVY = {1: 0.6, 2: 0.25, 3: 0.1, 4: 0.05}
TINY: dict[str, Any] = {
    "pretrain_rows": 160,
    "pretrain_epochs": 1,
    "train_rows": 160,
    "batch_size": 4,
    "epochs": 1,
    "hidden_size": 32,
    "layers": 1,
    "proxy_hidden_size": 16,
    "proxy_layers": 1,
    "proxy_min_steps": 6,
    "proxy_learning_rate": 0.01,
    "test_rows": 48,
}


def test_levels_and_families_have_their_shares() -> None:
    table = problems(800, EASY_HEAVY, "train", 0)
    cells = Counter(zip(table["level"].to_pylist(), table["source"].to_pylist(), strict=True))
    assert cells == {(str(n), f): round(800 * w / len(FAMILIES)) for n, w in EASY_HEAVY.items() for f in FAMILIES}
    assert len(set(table["question"].to_pylist())) == 800


def test_no_split_holds_a_question_of_another_whatever_the_seeds() -> None:
    drawn = {
        split: {
            question
            for seed in (0, 1)
            for question in problems(400, dict.fromkeys(LEVELS, 1.0), split, seed)["question"].to_pylist()
        }
        for split in ("pretrain", "train", "test")
    }
    assert not drawn["pretrain"] & drawn["train"]
    assert not drawn["test"] & (drawn["train"] | drawn["pretrain"])


def test_same_arguments_same_table_other_seed_another() -> None:
    first, again, other = (problems(200, EASY_HEAVY, "train", seed) for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)


def test_final_answers_are_right_and_marked() -> None:
    for row in problems(800, dict.fromkeys(LEVELS, 1.0), "test", 0).to_pylist():
        assert grade(row["answer"], row["final_answer"], strong_only=True) == Verdict.right
        assert row["final_answer"] == str(_solved(row["source"], row["question"])), row


def _solved(family: str, question: str) -> int:
    """The answer found in another way than the generator's."""
    numbers = [int(each) for each in re.findall(r"\d+", question)]
    if family == "chain":
        value = numbers[0]
        for operation, number in zip(re.findall(r"[-+*]", question), numbers[1:], strict=True):
            value = {"+": value + number, "-": value - number, "*": value * number}[operation]
        return value % 10
    return int(str(numbers[0])[::-1]) if family == "reversal" else sum(numbers)


def test_equal_steps_are_equal_and_arms_share_proxy_and_data() -> None:
    jobs = reproduction(FROZEN, [0, 1])
    assert {job.name for job in jobs if job.budget == "steps"} == set(ARMS)
    assert all(job.settings == FROZEN for job in jobs)
    assert len({job.folder for job in jobs}) == len(jobs) == 12


@pytest.mark.parametrize("name", STUDIES)
def test_study_has_a_baseline_and_names_of_its_own(name: str) -> None:
    jobs = jobs_of(name, FROZEN, [0, 1])
    assert len({job.folder for job in jobs}) == len(jobs)
    assert Counter(job.seed for job in jobs if job.name == "original") == {0: 1, 1: 1}
    assert len({job.settings.pretraining for job in jobs}) == 1
    for against in {job.against for job in jobs}:
        group = [job for job in jobs if job.against == against]
        assert Counter(job.seed for job in group if job.name == against) == {0: 1, 1: 1}
        assert len({(job.settings.epochs, job.settings.train_rows, job.settings.batch_size) for job in group}) == 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A whole reproduction with the smallest of models: folder and record."""
    out = tmp_path_factory.mktemp("reproduction")
    record = out / "record.json"
    arguments = [f"--set={name}={value}" for name, value in TINY.items()]
    assert main(["--out", str(out), "--seeds", "100,101", "--record", str(record), *arguments]) == 0
    return out, record


@pytest.mark.slow
def test_arms_take_equal_steps_and_controls_as_many_rows(tiny: tuple[Path, Path]) -> None:
    runs = json.loads(tiny[1].read_text())["runs"]
    for seed in (100, 101):
        found = {(run["arm"], run["budget"]): run for run in runs if run["seed"] == seed}
        assert {run["steps"] for (_, budget), run in found.items() if budget == "steps"} == {40}
        assert found["hard", "epochs"]["epochs"] == pytest.approx(1, abs=0.1)
        hard = found["hard", "steps"]["rows"]
        assert 160 < hard < 320
        assert all(found[arm, "steps"]["rows"] == hard for arm in ("random", "easy", "final-loss"))
        assert found["original", "steps"]["rows"] == 160


@pytest.mark.slow
def test_record_compares_every_arm_with_the_original(tiny: tuple[Path, Path]) -> None:
    record = json.loads(tiny[1].read_text())
    assert set(record["primary"]["found"]) == set(ARMS) - {"original"}
    rows = [row for row in record["differences"] if row["set"] == "balanced" and row["metric"] == "nll"]
    assert {row["budget"] for row in rows} == {"steps", "epochs"}
    assert all(row["seeds"] == 2 and row["examples"] == 48 and np.isfinite(row["low"]) for row in rows)
    assert (tiny[0] / "report.html").is_file()


@pytest.mark.slow
def test_a_lost_run_alone_is_done_again_and_is_the_same(tiny: tuple[Path, Path]) -> None:
    out, _ = tiny
    jobs = reproduction(Settings.model_validate(TINY), [100, 101])
    lost = out / "runs" / "hard-steps-seed101"
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/run.json")}
    rows = (lost / "evaluation" / "balanced" / "rows.parquet").read_bytes()
    (lost / "run.json").unlink()
    assert not finished(next(job for job in jobs if job.folder == lost.name), out)
    assert work(jobs, out, None)
    changed = {path.parent.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {lost.name}
    assert (lost / "evaluation" / "balanced" / "rows.parquet").read_bytes() == rows


@pytest.mark.slow
def test_runs_of_another_protocol_are_not_taken_for_finished(tiny: tuple[Path, Path]) -> None:
    other = reproduction(Settings.model_validate(TINY | {"train_rows": 240}), [100])
    with pytest.raises(InputError, match="a run with other settings; name another --out"):
        finished(other[0], tiny[0])


@pytest.mark.slow
def test_online_arms_keep_what_they_weighed(tmp_path: Path) -> None:
    jobs = jobs_of("online", Settings.model_validate(TINY), [100])
    chosen = [job for job in jobs if job.name in ("original", "adapt", "hard+dga", "sam")]
    assert work(chosen, tmp_path, None)
    runs = {job.name: json.loads((tmp_path / "runs" / job.folder / "run.json").read_text()) for job in chosen}
    assert len({run["training"]["steps"] for run in runs.values()}) == 1
    assert {name: run["training"]["gradients_per_step"] for name, run in runs.items()}["sam"] == 2
    for name in ("adapt", "hard+dga"):
        weights = runs[name]["choice"]["mean_weight_by_level"]
        assert set(weights) == {"1", "2", "3", "4"}
        assert len(set(weights.values())) > 1
    assert "mean_weight_by_level" not in runs["original"]["choice"]


@pytest.mark.slow
def test_limits_hold_each_setting_against_its_own_original(tmp_path: Path) -> None:
    settings = Settings.model_validate(TINY | {"batch_size": 8})
    names = ("original", "hard", "oracle", "original 6 passes", "hard 6 passes")
    chosen = [job for job in jobs_of("limits", settings, [100]) if job.name in names]
    assert work(chosen, tmp_path, None)
    record = summarize(chosen, tmp_path, "command", None)
    runs = {run["arm"]: run for run in record["runs"] if run["seed"] == 100}
    assert {name: run["steps"] for name, run in runs.items()} == dict.fromkeys(names[:3], 20) | dict.fromkeys(
        names[3:], 120
    )
    assert {(each["arm"], each["baseline"]) for each in record["differences"]} == {
        ("hard", "original"),
        ("oracle", "original"),
        ("hard 6 passes", "original 6 passes"),
    }
    copied = runs["oracle"]["choice"]["extra_copies_by_level"]
    levels = sorted(copied, reverse=True)
    assert runs["oracle"]["rows"] == runs["hard"]["rows"]
    # Highest first: a level is taken only once all above it are.
    assert all(copied[low] == 0 or copied[high] == 1 for high, low in itertools.pairwise(levels))
    assert (tmp_path / "report-original-6-passes.html").is_file()


def test_nothing_is_begun_after_the_time_limit(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--seeds", "100", "--time-limit", "0"]) == 3
    assert not (tmp_path / "runs").exists()


def test_chosen_arms_are_run_at_equal_steps_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--out", str(tmp_path), "--seeds", "100,101", "--time-limit", "0", "--arms"]
    assert main([*chosen, "original,hard"]) == 3
    assert "0 of 4 runs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*chosen, "original,hrad"])
    assert "hrad not among original, hard, random" in capsys.readouterr().err
