"""The positive control: its budget, its verdict, and that it goes on where it was stopped."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import curate.models.scratch
from curate.errors import InputError
from curate.validation.control import REPORTED, control, verdict
from curate.validation.control_task import SIZES

FLOW = import_module("curate.validation.control")

SMALL = replace(SIZES, rows=160, questions=24, known=40, named=4, base_steps=6, proxy_steps=5, most_steps=4)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", {**shape, "num_key_value_heads": 2})
    monkeypatch.setattr(FLOW, "SIZES", SMALL)


@pytest.mark.usefixtures("small")
def test_it_runs_whole_and_says_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.validation.control_task._reached", lambda losses, guessing: len(losses) == 4)
    out = tmp_path / "control"
    machine: dict[str, Any] = {"cache": tmp_path / "cache", "device": "cpu"}
    assert control(out, range(1), 5, **machine)["verdict"]["by"] == "estimates"
    record = control(out, range(2), 5, **machine)  # one seed more
    assert record["budget"]["steps"] == 3
    assert [(row["set"], row["metric"]) for row in record["results"][:4]] == list(REPORTED)
    assert {row["arm"] for row in record["results"]} == {"hard", "random", "easy"}
    assert {row["baseline"] for row in record["hard_against"]} == {"random", "easy"}
    runs = json.loads((out / "validation" / "run.json").read_text(encoding="utf-8"))["runs"]
    assert {run["steps"] for run in runs} == {3}

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("finished work is done again")

    monkeypatch.setattr(FLOW, "validate", never)
    assert control(out, range(2), 5, **machine) == record
    with pytest.raises(InputError, match="another task"):
        control(out, range(2), 6, **machine)


@pytest.mark.usefixtures("small")
def test_a_task_that_is_not_learned_has_no_budget_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine: dict[str, Any] = {"cache": tmp_path / "cache", "device": "cpu"}
    with pytest.raises(InputError, match="4 steps did not halve the loss of the rare skills"):
        control(tmp_path / "control", range(2), 5, **machine)
    base = (tmp_path / "control" / "base" / "run.json").read_bytes()
    with pytest.raises(InputError, match="unfinished control of another task"):
        control(tmp_path / "control", range(2), 6, **machine)
    monkeypatch.setattr("curate.validation.control_task._reached", lambda losses, guessing: len(losses) == 3)
    assert control(tmp_path / "control", range(2), 5, **machine)["budget"]["steps"] == 2
    assert (tmp_path / "control" / "base" / "run.json").read_bytes() == base


@pytest.mark.slow
@pytest.mark.control
@pytest.mark.timeout(900)  # a minute of a quiet core
def test_copies_of_hard_rows_help_where_they_have_to(tmp_path: Path) -> None:
    """The control itself, with two seeds; how often this fails by chance is in benchmarks/results/confirm."""
    arms = ("original", "hard", "random")
    record = control(tmp_path / "control", range(2), 0, arms=arms, cache=tmp_path / "cache", device="cpu")
    rows = {(row["arm"], row["baseline"], row["set"], row["metric"]): row["difference"] for row in record["results"]}
    against = {(row["baseline"], row["set"], row["metric"]): row["difference"] for row in record["hard_against"]}
    assert rows["hard", "original", "balanced", "accuracy"] > 0
    assert against["random", "balanced", "accuracy"] > 0
    assert rows["hard", "original", "mixture", "nll"] <= 0


def _rows(baseline: str, nats: float, answers: float, found: str = "better", seeds: int = 5) -> list[dict[str, Any]]:
    shared = {"arm": "hard", "baseline": baseline, "seeds": seeds, "verdict": found, "relative": nats / 0.2}
    shared |= {"baseline_mean": 0.5, "arm_mean": 0.6}
    ends = {"low": -0.5, "high": 0.5}
    return [
        {**shared, **ends, "set": "mixture", "metric": "nll", "difference": nats},
        {**shared, **ends, "set": "balanced", "metric": "accuracy", "difference": answers},
    ]


def test_it_came_out_only_where_hard_beats_original_and_random() -> None:
    won = {name: _rows(name, -0.1, 0.2) for name in ("original", "random")}
    assert verdict(won)["came_out"]
    assert verdict(won)["sentence"].startswith("The control passed")
    for name in won:
        lost = verdict({**won, name: _rows(name, -0.1, 0.2, "no evidence")})
        assert not lost["came_out"]
        assert lost["sentence"].startswith(f"The control failed: nats per token on the mixture, hard against {name}")


@pytest.mark.parametrize(
    ("nats", "answers", "came_out"), [(-0.1, 0.2, True), (0.0, 0.2, True), (0.01, 0.2, False), (-0.1, 0.0, False)]
)
def test_two_seeds_are_judged_by_estimates(nats: float, answers: float, *, came_out: bool) -> None:
    rows = {name: _rows(name, nats, answers, "no evidence", seeds=2) for name in ("original", "random")}
    assert verdict(rows)["came_out"] is came_out
    assert verdict(rows)["by"] == "estimates"
