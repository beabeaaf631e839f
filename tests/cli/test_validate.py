"""`curate validate`: what its options mean, what a newcomer gets wrong, and how it stops and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.cli.main
import curate.evaluation
import curate.finetuning
import curate.models
import curate.validation.folder
import curate.validation.validate
from curate.cli.main import main
from curate.data.readers import read
from curate.difficulty.score_files import write_scores
from curate.difficulty.scores import Scores
from curate.validation.config import Validation
from tests.fixtures.chats import ODD, ODD_TEXT
from tests.fixtures.finetuning import write_topics
from tests.fixtures.validation import Trained, identify_known, load_known, rows


@pytest.fixture(autouse=True)
def known_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.validation.folder, "identify", identify_known)
    monkeypatch.setattr("curate.estimate.load_tokenizer", load_known)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(rows().drop_columns(["known"]), path)
    return path


@pytest.fixture
def scores(tmp_path: Path, data: Path) -> Path:
    known = rows()["known"].to_numpy().astype(np.float32)
    trajectory = np.stack([np.full_like(known, 5), known], axis=1)
    found = Scores(trajectory, known, np.ones(100, bool), trajectory, np.array([1, 2]), (known * 20).astype(np.int32))
    write_scores(found, read(data).examples.ids, tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    fake = Trained()
    monkeypatch.setattr("curate.validation.runs.finetune", fake.finetune)
    monkeypatch.setattr("curate.validation.runs.evaluate", fake.evaluate)
    return fake


def settings_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> Validation:
    """What the command would validate with."""
    seen: list[Validation] = []

    def validate(_data: Any, settings: Validation, *_: Any, **__: Any) -> dict[str, Any]:
        seen.append(settings)
        return {}

    monkeypatch.setattr("curate.cli.validate.validate", validate)
    assert main(["validate", *words, "--json", "--out", "never"]) == 0
    return seen[0]


def failure(capsys: pytest.CaptureFixture[str], *words: str, status: int = 2) -> str:
    """The one line that says what is wrong."""
    assert main(["validate", *words]) == status
    line = capsys.readouterr().err.rstrip().split("\n")[-1]
    assert line.startswith("curate: ")
    return line


# -- options --------------------------------------------------------------------------------------------------------


def test_options_become_settings(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--model", "m", "--lora-rank", "4", "--batch-size", "7", "--finetuning", "warmup_ratio=0.1"]
    words += ["--optimizer", "muon", "--finetuning", "optimizer.momentum=0.9"]
    words += ["--arms", "hard, easy", "--seeds", "5,7", "--epochs", "2", "--budgets", "steps", "--rho", "0.1"]
    words += ["--evaluation", f"first={data}", "--evaluation", f"{{data: {data}, name: second, limit: 9}}"]
    words += ["--no-generate", "--evaluate", "shots=0", "--max-tokens", "33", "--proxy", "scratch"]
    words += ["--set", "augmenters.0.times=3", "--arm", "s2l=s2l", "--arm", f"own={data}", "--seed", "4"]
    words += ["--arm", f"odd={{data: {data}, {ODD_TEXT}}}", "--shape", "prompt_completion", "--role", "gast=user"]
    found = settings_of(monkeypatch, str(data), *words)
    tuning = found.finetuning
    assert (tuning.model, tuning.lora.rank, tuning.batch_size, tuning.warmup_ratio) == ("m", 4, 7, 0.1)
    assert (type(tuning.optimizer).__name__, tuning.optimizer.momentum) == ("Muon", 0.9)
    assert (found.arms, found.seeds, found.epochs, found.budgets, found.rho) == (
        ("hard", "easy"),
        (5, 7),
        2.0,
        ("steps",),
        0.1,
    )
    assert [(each.title, each.limit) for each in found.sets] == [("first", None), ("second", 9)]
    assert (found.evaluation.generate, found.evaluation.max_tokens) == (False, 33)
    assert (found.pipeline.augmenters[0].times, found.pipeline.proxy.model, found.pipeline.seed) == (3, "scratch", 4)
    recipe, own, odd = found.additions
    assert (recipe.name, type(recipe.recipe.augmenters[0]).__name__) == ("s2l", "Subset")
    assert (recipe.recipe.proxy.model, recipe.recipe.seed) == ("scratch", 4)
    assert (own.name, own.data) == ("own", str(data))
    assert own.reading == {"shape": "prompt_completion", "role": ("gast=user",)}
    assert odd.reading == {**ODD, "role": (ODD["role"],), "shape": "prompt_completion"}
    assert found.pipeline.gate.evaluation == ()


def test_defaults_are_those_of_the_settings(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(monkeypatch, str(data), "--model", "m")
    assert found == Validation(pipeline=found.pipeline, finetuning=found.finetuning)
    assert found.named_arms() == ("original", "hard", "random", "random-matched", "easy", "final-loss", "sam")


def test_a_generator_adds_the_arms_that_need_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(monkeypatch, str(data), "--model", "m", "--generator", "g", "--url", "http://x/v1")
    assert {"hard", "synthesis", "duplicates-synthesis"} <= set(found.named_arms())
    plain = settings_of(monkeypatch, str(data), "--model", "m")
    assert plain.pipeline.scorer == found.pipeline.scorer
    assert plain.pipeline.augmenters[0] == found.pipeline.augmenters[0]


# -- what a newcomer gets wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arms", "hard,esay"], "there is no arm 'esay'; did you mean 'easy'"),
        (["--arms", "synthesis"], "--generator"),
        (["--evaluation", "gone.parquet"], "gone.parquet does not exist"),
        (["--seeds", "many"], "--seeds many: give how many"),
        (["--seeds", "0"], "give at least 1"),
        (["--budgets", "time"], "budgets"),
        (["--arm", "own"], "write NAME=DATA or NAME=RECIPE"),
        (["--arm", "own=gone.parquet", "--arms", "original"], "arm own: gone.parquet does not exist"),
        (["--finetuning", "steps=5"], "use --epochs"),
        (["--finetuning", "batchsize=5"], "did you mean 'batch_size'"),
        (["--evaluate", "sample=5"], "did you mean 'samples'"),
        (["--time-limit", "0"], "minutes above 0"),
        (["--held-out", "2"], "held_out"),
        (["--recipe", "s2l", "--arms", "easy"], "use one with Duplicate"),
    ],
)
def test_mistakes_are_one_line_with_the_remedy(
    data: Path,
    scores: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    trained: Trained,
) -> None:
    words = words if "--held-out" in words else ["--held-out", "0.3", *words]
    given = [str(data), "--model", "m", "--scores", str(scores), "--out", str(tmp_path / "out"), *words]
    assert message in failure(capsys, *given)
    assert not trained.calls


def test_a_folder_of_something_else_is_refused_before_any_work(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "other files" in failure(capsys, str(data), "--model", "m", "--out", str(tmp_path))


# -- the whole, with the model replaced -----------------------------------------------------------------------------


def test_one_command_leaves_the_answer_and_prints_it(
    data: Path, scores: Path, tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["validate", str(data), "--model", "m", "--scores", str(scores), "--out", str(out), "--held-out", "0.3"]
    words += ["--arms", "hard,easy", "--seeds", "1", "--cache", str(tmp_path / "cache")]
    assert main([*words, "--plan", "--json"]) == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert plan["runs_left"] == 4
    assert not out.exists()
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "easy" in captured.out
    assert str(out / "report.html") in captured.out
    assert "with one seed the variance between seeds is unknown" in captured.err
    assert "run 1 of 5: original" in captured.err
    assert len(trained.calls) == 4
    assert main([*words, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert len(trained.calls) == 4
    assert again["comparison"] == json.loads((out / "comparison.json").read_text())
    assert main([*words, "--plan"]) == 0
    assert "0 runs are left" in capsys.readouterr().out


def test_the_time_limit_ends_with_status_3_and_the_same_command_goes_on(
    data: Path, scores: Path, tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(data), "--model", "m", "--scores", str(scores), "--out", str(tmp_path / "out"), "--held-out", "0.3"]
    words += ["--arms", "hard", "--seeds", "1", "--cache", str(tmp_path / "cache"), "--budgets", "steps"]
    assert "rerun the same command" in failure(capsys, *words, "--time-limit", "1e-7", status=3)
    assert main(["validate", *words]) == 0
    assert len(trained.calls) == 2


def test_weights_go_when_a_run_is_evaluated_if_asked(
    data: Path, scores: Path, tmp_path: Path, trained: Trained
) -> None:
    words = ["validate", str(data), "--model", "m", "--scores", str(scores), "--out", str(tmp_path / "out")]
    words += ["--held-out", "0.3", "--arms", "hard", "--seeds", "1", "--cache", str(tmp_path / "cache"), "--json"]
    assert main(words) == 0
    runs = sorted((tmp_path / "out" / "runs").iterdir())
    assert len(runs) == 4
    assert all((run / "model" / "model.safetensors").is_file() for run in runs)
    assert main([*words, "--drop-weights", "--fresh"]) == 0
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert len(trained.calls) == 6
    assert main([*words, "--drop-weights"]) == 0
    assert len(trained.calls) == 6


def test_rows_that_an_evaluation_set_has_are_warned_of(
    data: Path, scores: Path, tmp_path: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.Table.from_pylist(rows().to_pylist()[:9]), tmp_path / "test.parquet")
    words = [
        "validate",
        str(data),
        "--model",
        "m",
        "--scores",
        str(scores),
        "--out",
        str(tmp_path / "out"),
        "--arms",
        "hard",
    ]
    words += ["--seeds", "1", "--evaluation", f"exam={tmp_path / 'test.parquet'}", "--cache", str(tmp_path / "cache")]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert "9 of 100 rows share text with evaluation set exam" in captured.err
    record = json.loads(captured.out)
    assert record["evaluated"]["contaminated"]["exam"]["rows"] == 9
    assert record["data"]["rows"] == 100
    assert main([*words, "--drop-contaminated", "--fresh", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["rows"] == 91


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_topics(folder)
    return folder


@pytest.mark.slow
def test_validate_holds_online_arms_against_the_data_as_it_is(inputs: Path, tmp_path: Path) -> None:
    words = ["validate", str(inputs / "rows.parquet"), "--model", str(inputs / "model"), "--proxy", "scratch"]
    words += ["--out", str(tmp_path / "out"), "--arms", "hard,irdro,hard+irdro,slow", "--seeds", "2", "--epochs", "1"]
    words += ["--reweighter", "irdro", "--reweighter", "slow={use: DynamicLoss, uniform_steps: 1000}", "--no-generate"]
    words += ["--budgets", "steps", "--batch-size", "8", "--set", "proxy.steps=6", "--set", "proxy.batch_size=8"]
    words += ["--held-out", "0.4", "--set", "gate.near_duplicate=null", "--finetuning", "learning_rate=0.01"]
    words += ["--precision", "float32", "--set", "proxy.precision=float32"]
    assert curate.cli.main.main(words) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert set(record["arms"]) == {"original", "hard", "irdro", "hard+irdro", "slow"}
    assert record["reweighters"]["slow"] == {"use": "curate.reweighters.DynamicLoss", "uniform_steps": 1000}
    losses = {run["name"]: [each["nll"] for each in run["evaluation"].values()] for run in record["runs"]}
    assert losses["slow-steps-seed0"] == losses["original-steps-seed0"]  # uniform weights to the end
    assert losses["irdro-steps-seed0"] != losses["original-steps-seed0"]
    assert losses["hard+irdro-steps-seed0"] != losses["hard-steps-seed0"]
