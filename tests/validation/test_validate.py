"""A validation runs its arms in turn, goes on where it was cut off, and ends in a comparison."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.validation.record
from augmenters import Duplicate
from curate.clusterers import Quantile
from curate.errors import ExternalError, InputError
from curate.evaluation import Evaluation, EvaluationSet
from curate.finetuning import Finetuning
from curate.optimizers import SAM
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.tokenization.encoding import tokenize
from curate.tokenization.templates import resolve_template
from curate.validation import Addition, Validation, validate
from curate.validation.arms import Arm
from curate.validation.estimate import forecast
from curate.validation.evaluation_rows import HELD_OUT
from curate.validation.schedule import reference_arm, schedule
from curate.validation.validate import begin
from scorers import LossTrajectory
from tests.fixtures.tokenizers import byte_level
from tests.fixtures.validation import Trained, load_known, loaded, pipeline, rows, settings

VALIDATE = import_module("curate.validation.validate")  # the package has a function of that name

# -- which runs there are -------------------------------------------------------------------------------------------


def planned(given: Validation, **counts: int) -> list[Any]:
    arms = {name.replace("_", "-"): Arm(name.replace("_", "-"), "", {}, n, n, None, None) for name, n in counts.items()}
    both = [name for name in arms if name in ("original", "hard")]
    return schedule(given, 0, arms, arms[reference_arm(given)], both)


def test_every_arm_takes_the_steps_of_the_hard_arm_and_epochs_are_its_own() -> None:
    runs = planned(settings(epochs=3), original=100, hard=140, random=140, sam=100)
    assert {run.name: run.steps for run in runs} == {
        "original-steps-seed0": 42,
        "hard-steps-seed0": 42,
        "random-steps-seed0": 42,
        "sam-steps-seed0": 42,
        "original-epochs-seed0": 30,
        "hard-epochs-seed0": 42,
    }
    assert [run.same_as for run in runs if run.same_as] == ["hard-steps-seed0"]
    assert runs[-1].same_as == "hard-steps-seed0"
    assert {run.budget for run in planned(settings(budgets=("steps",)), original=100, hard=140)} == {"steps"}


# -- the whole, with the model replaced -----------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    fake = Trained()
    monkeypatch.setattr(VALIDATE, "finetune", fake.finetune)
    monkeypatch.setattr(VALIDATE, "evaluate", fake.evaluate)
    monkeypatch.setattr("curate.estimate.load_tokenizer", load_known)
    return fake


def whole(out: Path, **fields: Any) -> dict[str, Any]:
    more = {name: fields.pop(name) for name in ("time_limit", "fresh") if name in fields}
    return validate(
        loaded(),
        settings(**{"arms": ("hard", "random"), "held_out": 0.3} | fields),
        out,
        cache=out / ".." / "cache",
        **more,
    )


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
    with pytest.raises(ExternalError, match="time limit is reached; the same command goes on"):
        whole(tmp_path / "out", time_limit=1e-6)
    assert not trained.calls
    given: list[float | None] = []
    finetune = trained.finetune

    def limited(*args: Any, time_limit: float | None, **more: Any) -> None:
        given.append(time_limit)
        finetune(*args, **more)

    monkeypatch.setattr(VALIDATE, "finetune", limited)
    whole(tmp_path / "out", time_limit=1000.0)
    limits = [each for each in given if each is not None]
    assert len(limits) == 8
    assert 0 < limits[-1] < limits[0] < 1000


def test_a_folder_of_another_validation_or_of_anything_else_is_left_alone(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    with pytest.raises(InputError, match=r"another fine-tuning \(epochs\); name another folder, or pass --fresh"):
        whole(tmp_path / "out", seeds=(0,), epochs=5.0)
    with pytest.raises(InputError, match="another dataset"):
        whole(tmp_path / "out", seeds=(0,), held_out=0.4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"other files \(thesis\.txt\)"):
        whole(tmp_path / "mine", seeds=(0,), fresh=True)
    calls = len(trained.calls)
    result = whole(tmp_path / "out", seeds=(0,), epochs=5.0, fresh=True)
    assert len(trained.calls) == 2 * calls
    assert result["epochs"] == 5.0


def test_another_model_of_the_same_size_is_refused_by_name(tmp_path: Path, trained: Trained) -> None:
    whole(tmp_path / "out", seeds=(0,))
    other = Finetuning(model="n", batch_size=10)
    with pytest.raises(InputError, match=r"another model \(m, now n\)"):
        whole(tmp_path / "out", seeds=(0,), finetuning=other)
    assert (tmp_path / "out" / "run.json").is_file()
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["model"]["identity"] == "files:m"


def sets_of(out: Path) -> dict[str, EvaluationSet]:
    """Two evaluation sets; only A shares rows with the data, 7 of them."""
    out.mkdir(exist_ok=True)
    pq.write_table(pa.concat_tables([rows().slice(0, 7), rows(20, seed=7)]), out / "A.parquet")
    pq.write_table(rows(20, seed=8), out / "B.parquet")
    pq.write_table(rows().slice(20, 7), out / "C.parquet")
    return {name: EvaluationSet(data=str(out / f"{name}.parquet")) for name in "ABC"}


def test_sets_may_be_fewer_or_more_with_more_seeds(tmp_path: Path, trained: Trained) -> None:
    sets = sets_of(tmp_path / "sets")
    whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0,))
    fewer = whole(tmp_path / "out", sets=(sets["A"],), seeds=(0, 1))
    assert [each["set"] for each in fewer["comparison"]["sets"]] == ["A"]
    both = whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0, 1))
    assert [each["set"] for each in both["comparison"]["sets"]] == ["A", "B"]
    pq.write_table(rows(20, seed=9), tmp_path / "sets" / "B.parquet")
    with pytest.raises(InputError, match="other questions in evaluation set 'B'"):
        whole(tmp_path / "out", sets=(sets["B"],), seeds=(0, 1))
    assert len(trained.calls) == len(set(trained.calls)) == 8


def test_runs_without_weights_are_finished_and_cannot_be_asked_anything_else(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = sets_of(tmp_path / "sets")
    whole(tmp_path / "out", sets=(sets["A"],), seeds=(0,), keep_weights=False)
    evaluate = trained.evaluate

    def with_weights(target: str, *given: Any, **more: Any) -> None:
        if not (Path(target) / "model" / "model.safetensors").exists():
            raise InputError("the weights are gone; train it again with --fresh")
        evaluate(target, *given, **more)

    monkeypatch.setattr(VALIDATE, "evaluate", with_weights)
    whole(tmp_path / "out", sets=(sets["A"],), seeds=(0,))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(InputError, match=r"evaluation set B: the weights of .*seed0 went with --drop-weights"):
        whole(tmp_path / "out", sets=(sets["A"], sets["B"]), seeds=(0,))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files


def test_a_set_for_which_other_rows_are_dropped_is_refused_and_others_are_not(tmp_path: Path, trained: Trained) -> None:
    sets = sets_of(tmp_path / "sets")
    given: dict[str, Any] = {"drop_contaminated": True, "seeds": (0,)}
    assert whole(tmp_path / "out", sets=(sets["A"],), **given)["data"]["rows"] == 93
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with pytest.raises(InputError, match="--drop-contaminated leaves out other rows"):
        whole(tmp_path / "out", sets=(sets["A"], sets["C"]), **given)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files
    whole(tmp_path / "out", sets=(sets["A"], sets["B"]), **given)
    assert len(trained.calls) == 4


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
            begin(loaded(), settings(**{"held_out": 0.3} | fields), tmp_path / "out", cache=tmp_path / "c", dry=dry)
        assert not (tmp_path / "out").exists()
    whole(tmp_path / "out", seeds=(0,))


def test_a_plan_knows_more_as_the_work_goes_on_and_changes_nothing(tmp_path: Path, trained: Trained) -> None:
    given = settings(arms=("hard", "sam"), held_out=0.3)
    out = tmp_path / "out"

    def plan() -> dict[str, Any]:
        return forecast(begin(loaded(), given, out, cache=tmp_path / "cache", dry=True))

    before = plan()
    assert not out.exists()
    assert [each["known"] for each in before["arms"]] == [True, False, True]
    assert before["seconds_left"] is None
    assert before["runs_left"] == 2 * 4
    left = begin(loaded(), given, out, cache=tmp_path / "cache", dry=True).prepared.loaded.examples
    text = resolve_template("auto", left.shape, False)  # the text around a prompt counts too
    per_row = len(tokenize(left, byte_level(vocabulary=300), template=text, max_length=512).ids) / len(left)
    assert per_row > 100
    first = before["runs"][0]
    assert first["tokens"] == round(first["steps"] * 10 * per_row)
    passes = {run["arm"]: run["gradients_per_step"] for run in before["runs"]}
    assert passes == {"original": 1, "hard": 1, "sam": 2}
    sharp = settings(arms=("hard",), held_out=0.3, finetuning=Finetuning(model="m", batch_size=10, optimizer=SAM()))
    doubled = forecast(begin(loaded(), sharp, tmp_path / "sharp", cache=tmp_path / "cache", dry=True))["runs"][0]
    assert doubled["gradients_per_step"] == 2
    assert doubled["tokens"] == pytest.approx(2 * first["tokens"], abs=1)
    trained.fails_before = 6
    with pytest.raises(ExternalError):
        whole(out, arms=("hard", "sam"))
    files = sorted(path for path in out.rglob("*"))
    after = plan()
    assert sorted(path for path in out.rglob("*")) == files
    assert all(each["known"] for each in after["arms"])
    assert after["runs_left"] == 2
    assert after["seconds_left"] > 0
    assert {each["metric"] for each in after["detectable"]} == {"nll"}
    assert after["detectable"][0]["absolute"] > 0


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
