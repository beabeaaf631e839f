"""`curate validate --reweighter`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import curate.cli.main
from tests.fixtures.finetuning import write_topics


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
    assert record["reweighters"]["slow"] == {"use": "curate.reweighters.loss_based.DynamicLoss", "uniform_steps": 1000}
    losses = {run["name"]: [each["nll"] for each in run["evaluation"].values()] for run in record["runs"]}
    assert losses["slow-steps-seed0"] == losses["original-steps-seed0"]  # uniform weights to the end
    assert losses["irdro-steps-seed0"] != losses["original-steps-seed0"]
    assert losses["hard+irdro-steps-seed0"] != losses["hard-steps-seed0"]
