"""Reweighters in fine-tuning runs and as arms of a validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.cli.main
from augmenters import Duplicate, Subset
from curate.clusterers import Quantile
from curate.errors import InputError
from curate.finetuning import Finetuning, finetune
from curate.finetuning.weights import read_weights
from curate.pipeline import Pipeline
from curate.reweighters import ADAPT, DGA, IRDRO, DynamicLoss
from curate.validation import Validation
from curate.validation.arms import Arm
from curate.validation.run_settings import model_for
from curate.validation.schedule import PlannedRun
from scorers import LossTrajectory
from tests.fixtures.finetuning import write_model
from tests.fixtures.tokenizers import byte_level


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.parquet (two topics), target.parquet (one of them) and a tiny model in model/."""
    folder = tmp_path_factory.mktemp("inputs")
    numbers = np.random.default_rng(0).permutation(1000)[:60].tolist()
    asked = {
        "prompt": [f"Say {a}." for a in numbers],
        "topic": ["plus", "minus"] * 30,
        "id": [f"r{a}" for a in range(60)],
    }
    said = [f"{a} + 1" if k % 2 == 0 else f"{a} - 1" for k, a in enumerate(numbers)]
    rows = pa.table({**asked, "completion": said})
    pq.write_table(rows, folder / "rows.parquet")
    pq.write_table(rows.slice(0, 12).filter(pa.array([True, False] * 6)), folder / "target.parquet")
    write_model(folder / "model", byte_level())
    return folder


def tuning(inputs: Path, **changes: Any) -> Finetuning:
    given = {"model": str(inputs / "model"), "steps": 9, "batch_size": 8, "learning_rate": 0.01, "max_length": 64}
    return Finetuning(**given | {"precision": "float32", "template": "plain"} | changes)


def test_a_run_keeps_the_weights_that_rows_had(inputs: Path, tmp_path: Path) -> None:
    reweighter = DGA(target=str(inputs / "target.parquet"), domains="topic", refresh_every=3, rows_per_gradient=4)
    record = finetune(inputs / "rows.parquet", tuning(inputs, reweighter=reweighter), tmp_path / "run")
    ids, weights, times = read_weights(tmp_path / "run")
    assert ids.to_pylist() == [f"r{k}" for k in range(60)]
    assert times.sum() == 72
    drawn = times > 0
    assert np.isnan(weights[~drawn]).all()
    topics = np.array(["plus", "minus"] * 30)
    assert weights[drawn & (topics == "plus")].min() > 1 > weights[drawn & (topics == "minus")].max()
    facts = record["training"]["weights"]
    assert facts["rows_drawn"] == drawn.sum()
    assert (facts["smallest"], facts["largest"]) == pytest.approx(
        (weights[drawn].min(), weights[drawn].max()), abs=1e-5
    )
    assert 0 < facts["effective_share"] < 1
    assert record["settings"]["reweighter"]["use"] == "curate.reweighters.dga.DGA"


def test_all_rows_alike_is_the_plain_run(inputs: Path, tmp_path: Path) -> None:
    alike = DynamicLoss(uniform_steps=9)
    weighed = finetune(inputs / "rows.parquet", tuning(inputs, reweighter=alike), tmp_path / "weighed")
    plain = finetune(inputs / "rows.parquet", tuning(inputs), tmp_path / "plain")
    assert weighed["training"]["loss_last"] == plain["training"]["loss_last"]
    assert weighed["training"]["weights"]["effective_share"] == 1
    assert plain["training"]["weights"] is None
    assert not (tmp_path / "plain" / "weights.parquet").exists()
    with pytest.raises(InputError, match="holds no weights"):
        read_weights(tmp_path / "plain")


def test_stopped_and_begun_again_it_goes_on_with_its_weights(inputs: Path, tmp_path: Path) -> None:
    from curate.errors import ExternalError

    reweighter = ADAPT(anchors=str(inputs / "target.parquet"), tau=0.1, refresh_every=4)
    settings = tuning(inputs, reweighter=reweighter, save_every=1)
    whole = finetune(inputs / "rows.parquet", settings, tmp_path / "whole")
    for _ in range(12):
        try:
            pieces = finetune(inputs / "rows.parquet", settings, tmp_path / "pieces", time_limit=1e-9)
            break
        except ExternalError:
            continue
    assert pieces["training"]["resumed"] > 3
    assert pieces["training"]["loss_last"] == whole["training"]["loss_last"]
    for one, two in zip(read_weights(tmp_path / "pieces")[1:], read_weights(tmp_path / "whole")[1:], strict=True):
        assert np.array_equal(one, two, equal_nan=True)


def test_a_changed_target_is_another_run(inputs: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.parquet"
    pq.write_table(pq.read_table(inputs / "target.parquet"), target)
    settings = tuning(inputs, reweighter=ADAPT(anchors=str(target)), steps=2)
    finetune(inputs / "rows.parquet", settings, tmp_path / "run")
    pq.write_table(pq.read_table(inputs / "target.parquet").slice(0, 3), target)
    with pytest.raises(InputError, match="a run of other data or settings"):
        finetune(inputs / "rows.parquet", settings, tmp_path / "run")


def test_the_command_takes_a_reweighter_by_name_or_whole(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["finetune", str(inputs / "rows.parquet"), "--model", str(inputs / "model"), "--steps", "2", "--json"]
    usual += ["--batch-size", "8", "--max-length", "64"]

    def called(*more: str) -> tuple[int, dict[str, Any]]:
        status = curate.cli.main.main([*usual, "--out", str(tmp_path / f"run{len(list(tmp_path.iterdir()))}"), *more])
        return status, json.loads(capsys.readouterr().out)

    status, record = called("--reweighter", "dynamicloss", "--set", "reweighter.r=0.5")
    assert status == 0
    assert record["settings"]["reweighter"]["r"] == 0.5
    status, record = called("--reweighter", f"{{use: ADAPT, anchors: {inputs / 'target.parquet'}, similarity: bm25}}")
    assert (status, record["settings"]["reweighter"]["similarity"]) == (0, "bm25")
    for wrong, message in (
        (["--reweighter", "drift"], "there is no reweighter 'drift'"),
        (["--reweighter", "{r: 2}"], "name the component"),
        (["--reweighter", "dga"], "target"),
        (["--reweighter", "givenweights"], "reads column 'weight', which the data does not have"),
    ):
        status, found = called(*wrong)
        assert status == 2
        assert message in found["error"]["message"] if isinstance(found["error"], dict) else message in found["error"]


# -- arms of a validation ------------------------------------------------------------------------------------------


def validation(*augmenters: Any, **fields: Any) -> Validation:
    recipe = Pipeline(scorer=LossTrajectory(), clusterer=Quantile(q=0.25), augmenters=augmenters or (Duplicate(),))
    return Validation(**{"pipeline": recipe, "finetuning": Finetuning(model="m"), "seeds": (0,)} | fields)


def test_every_reweighter_is_an_arm_on_the_data_and_one_on_the_hard_arm() -> None:
    given = validation(reweighters={"irdro": IRDRO(), "mild": DynamicLoss(r=9)})
    assert given.named_arms()[-5:] == ("sam", "irdro", "mild", "hard+irdro", "hard+mild")
    assert [given.data_arm(name) for name in ("irdro", "hard+mild", "sam", "easy")] == [
        "original",
        "hard",
        "original",
        "easy",
    ]
    assert given.reweighter("hard+mild") == DynamicLoss(r=9)
    assert given.reweighter("hard") is None
    chosen = validation(reweighters={"irdro": IRDRO()}, arms=("hard+irdro",))
    assert chosen.named_arms() == ("original", "hard+irdro")
    without = validation(Subset(size=0.5), reweighters={"irdro": IRDRO()})
    assert without.named_arms() == ("original", "sam", "irdro")


def test_names_of_reweighters_and_arms_that_cannot_be() -> None:
    for name in ("hard", "a b", "sam"):
        with pytest.raises(ValueError, match="a reweighter cannot be called"):
            validation(reweighters={name: IRDRO()})
    with pytest.raises(ValueError, match="did you mean 'hard\\+irdro'"):
        validation(reweighters={"irdro": IRDRO()}, arms=("hard-irdro",))
    with pytest.raises(InputError, match="the recipe copies no hard rows"):
        validation(Subset(size=0.5), reweighters={"irdro": IRDRO()}, arms=("hard+irdro",))


def test_an_arm_with_a_reweighter_differs_in_it_alone(tmp_path: Path) -> None:
    given = validation(reweighters={"irdro": IRDRO()})

    def settings_of(name: str) -> Finetuning:
        run = PlannedRun(Arm(name, "", {}, 10, 10, None, None), "steps", 3, 7)
        found: Finetuning = model_for(given, run, None, tmp_path)
        return found

    assert settings_of("irdro").reweighter == settings_of("hard+irdro").reweighter == IRDRO()
    assert settings_of("hard").reweighter is None
    assert settings_of("irdro").model_copy(update={"reweighter": None}) == settings_of("original")


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
    assert record["reweighters"]["slow"] == {"use": "curate.reweighters.loss_based.DynamicLoss", "uniform_steps": 1000}
    losses = {run["name"]: [each["nll"] for each in run["evaluation"].values()] for run in record["runs"]}
    assert losses["slow-steps-seed0"] == losses["original-steps-seed0"]  # uniform weights to the end
    assert losses["irdro-steps-seed0"] != losses["original-steps-seed0"]
    assert losses["hard+irdro-steps-seed0"] != losses["hard-steps-seed0"]
