"""A validation runs its arms in turn, goes on where it was cut off, and ends in a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.validation.record
from augmenters import Duplicate, Synthesize
from curate.clusterers import Quantile
from curate.errors import ExternalError, InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.finetuning.config import Finetuning
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.validation.config import Addition
from curate.validation.evaluation_rows import HELD_OUT
from curate.validation.validate import prepare_experiment, validate
from scorers import LossTrajectory
from tests.fixtures.validation import Trained, Writes, loaded, pipeline, rows, settings, whole

# -- which runs there are -------------------------------------------------------------------------------------------


# -- the whole, with the model replaced -----------------------------------------------------------------------------


def test_all_arms_of_the_first_seed_come_first_and_a_comparison_after_each(tmp_path: Path, trained: Trained) -> None:
    compared: list[int] = []
    compare = curate.validation.record.compare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            curate.validation.record,
            "compare",
            lambda runs, baseline, **more: compared.append(len(runs)) or compare(runs, baseline, **more),
        )
        result = whole(tmp_path / "out")
    one = [("original", "steps"), ("hard", "steps"), ("random", "steps"), ("original", "epochs")]
    assert trained.calls == [(*each, seed) for seed in (0, 1) for each in one]
    assert compared == [5, 10]
    assert result["comparison"]["baseline"] == "original"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["seeds"] == [0, 1]
    assert (tmp_path / "out" / "comparison.json").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
    steps = {run["name"]: run["steps"] for run in result["runs"]}
    assert len({count for name, count in steps.items() if "-steps-" in name}) == 1
    same = [run for run in result["runs"] if run["same_as"]]
    assert [run["name"] for run in same] == ["hard-epochs-seed0", "hard-epochs-seed1"]
    assert {row["budget"] for row in result["comparison"]["differences"] if row["arm"] == "hard"} == {"steps", "epochs"}
    assert trained.curation["hard-steps-seed0"] is not None
    assert trained.curation["original-steps-seed0"] is None


def test_sam_is_the_same_data_and_settings_under_another_optimizer(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", arms=("hard", "sam"), rho=0.2, seeds=(0,))
    sam, original = trained.settings["sam-steps-seed0"], trained.settings["original-steps-seed0"]
    assert (type(sam.optimizer).__name__, sam.optimizer.rho, sam.optimizer.base) == ("SAM", 0.2, original.optimizer)
    assert sam.model_copy(update={"optimizer": original.optimizer}) == original


def test_cut_off_anywhere_the_same_call_goes_on(tmp_path: Path, trained: Trained) -> None:
    for failing in (0, 2, 5):
        trained.fails_before = failing
        with pytest.raises(ExternalError, match="disk is full"):
            whole(tmp_path / "out")
        assert not (tmp_path / "out" / "run.json").exists()
    trained.fails_before = 10**9
    whole(tmp_path / "out")
    assert len(trained.calls) == len(set(trained.calls)) == 8
    whole(tmp_path / "out", seeds=(0, 1, 2), arms=("hard", "random", "easy"))
    assert len(trained.calls) == len(set(trained.calls)) == 8 + 2 + 5


def test_a_time_limit_stops_between_runs_and_says_so(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExternalError, match="time limit is reached; rerun the same command"):
        whole(tmp_path / "out", time_limit=1e-6)
    assert not trained.calls
    given: list[float | None] = []
    finetune = trained.finetune

    def limited(*args: Any, time_limit: float | None, **more: Any) -> None:
        given.append(time_limit)
        finetune(*args, **more)

    monkeypatch.setattr("curate.validation.runs.finetune", limited)
    whole(tmp_path / "out", time_limit=1000.0)
    limits = [each for each in given if each is not None]
    assert len(limits) == 8
    assert 0 < limits[-1] < limits[0] < 1000


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"finetuning": Finetuning(model="./gone")}, r"model '\./gone' does not exist"),
        ({"sets": "one"}, "evaluation set one has 1 rows with a final answer"),
        ({"pipeline": pipeline(scorer=LossTrajectory(), proxy=Proxy(steps=2))}, "proxy.checkpoints = 5"),
        (
            {
                "pipeline": pipeline(proxy=Proxy(steps=2)),
                "additions": (Addition(name="s", recipe=pipeline(scorer=LossTrajectory())),),
            },
            "arm s: proxy.checkpoints = 5",
        ),
    ],
)
def test_what_is_bound_to_fail_fails_before_the_folder_is_claimed(
    tmp_path: Path, trained: Trained, fields: dict[str, Any], message: str
) -> None:
    if "sets" in fields:
        pq.write_table(rows(1, seed=5), tmp_path / "one.parquet")
        fields = {"sets": (EvaluationSet(data=str(tmp_path / "one.parquet")),)}
    for dry in (True, False):
        with pytest.raises(InputError, match=message):
            prepare_experiment(
                loaded(), settings(**{"held_out": 0.3} | fields), tmp_path / "out", cache=tmp_path / "c", dry=dry
            )
        assert not (tmp_path / "out").exists()
    whole(tmp_path / "out", seeds=(0,))


# -- the whole, as it is --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_a_table_to_an_answer_and_again_without_doing_anything_twice(tmp_path: Path, small_models: None) -> None:
    rng = np.random.default_rng(0)
    data = rows(120)
    completions = ["".join(rng.choice(list("qwertyuiop"), 8)) if k % 4 == 0 else "the same" for k in range(120)]
    data = data.drop_columns(["known"]).set_column(1, "completion", pa.array(completions))
    proxy = Proxy(model="scratch", steps=20, horizon=60, checkpoints=2, batch_size=8, max_length=64, learning_rate=5e-3)
    given = settings(
        pipeline=Pipeline(proxy=proxy, scorer=LossTrajectory(), clusterer=Quantile(q=0.75), augmenters=[Duplicate()]),
        finetuning=Finetuning(model="scratch", batch_size=16, max_length=64),
        evaluation=Evaluation(generate=False),
        arms=("hard",),
        epochs=1.0,
        held_out=0.2,
    )
    one = validate(data, given, tmp_path / "out", cache=tmp_path / "cache")
    runs = {run["name"]: run for run in one["runs"]}
    assert len(runs) == 2 * 4
    assert {run["steps"] for name, run in runs.items() if "-steps-" in name} == {runs["hard-steps-seed0"]["steps"]}
    assert all(run["evaluation"][HELD_OUT]["nll"] > 0 for run in runs.values())
    assert runs["hard-epochs-seed1"]["evaluation"] == runs["hard-steps-seed1"]["evaluation"]
    losses = [runs[f"original-steps-seed{seed}"]["evaluation"][HELD_OUT]["nll"] for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert one["arms"]["hard"]["curation"]["tokens"] > 0
    assert one["arms"]["hard"]["curation"]["proxy_parameters"] > 0
    differences = one["comparison"]["differences"]
    assert {(each["arm"], each["budget"]) for each in differences} == {("hard", "steps"), ("hard", "epochs")}
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/model/*.safetensors")}
    again = validate(data, given, tmp_path / "out", cache=tmp_path / "cache")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert again["comparison"] == one["comparison"]


def test_new_rows_must_not_have_what_is_asked_later(tmp_path: Path) -> None:
    given = settings(pipeline=pipeline(Duplicate(), Synthesize(generator=Writes())), held_out=0.3)
    work = prepare_experiment(loaded(), given, tmp_path / "out", cache=tmp_path / "cache")
    (asked,) = work.settings.pipeline.gate.evaluation
    assert pq.read_table(asked["data"]).num_rows == 30
    plain = prepare_experiment(loaded(), settings(held_out=0.3), tmp_path / "plain", cache=tmp_path / "cache")
    assert plain.settings.pipeline.gate.evaluation == ()


def test_random_weights_are_warned_of_before_and_in_the_result(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.validation.validate.has_initial_weights", lambda folder: True)
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)
    result = whole(tmp_path / "out", seeds=(0,), budgets=("steps",))
    assert result["warnings"][0].startswith("the target has random weights")
    assert "the target has random weights" in (tmp_path / "out" / "report.html").read_text()
