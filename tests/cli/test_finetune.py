"""`curate finetune` as a user calls it: what it prints, how it fails, and that kill -9 leaves no trace."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import curate.cli.main
from curate.cli.finetune import add_arguments, given_settings
from curate.finetuning.metrics import read_metrics
from curate.finetuning.run_folder import read_run
from curate.optimizers import SAM, AdamW, Muon
from tests import ROOT
from tests.fixtures.finetuning import losses, weights, write_model
from tests.fixtures.forked import Forked
from tests.fixtures.tokenizers import byte_level


def write_inputs(folder: Path) -> None:
    """data.jsonl and a tiny model in model/."""
    rng = random.Random(0)
    with (folder / "data.jsonl").open("w") as file:
        for i in range(60):
            a, b = rng.randrange(100), rng.randrange(1000)
            row = {"prompt": f"What is {a} plus {b}? ({i})", "completion": f"{a} + {b} = {a + b}"}
            file.write(json.dumps(row) + "\n")
    write_model(folder / "model", byte_level())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


def arguments(inputs: Path, out: Path, *more: str) -> list[str]:
    usual = ("--batch-size", "8", "--learning-rate", "0.01", "--max-length", "64", "--precision", "float32")
    return ["finetune", str(inputs / "data.jsonl"), "--model", str(inputs / "model"), "--out", str(out), *usual, *more]


# -- what it says ---------------------------------------------------------------------------------------------------
def test_one_object_and_nothing_else(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert curate.cli.main.main([*arguments(inputs, tmp_path / "run", "--steps", "2"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"directory": str(tmp_path / "run"), **read_run(tmp_path / "run")}
    assert found["arm"] == "data"


def test_options_become_settings(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--steps", "1/8 epoch", "--lora-targets", "q_proj,v_proj", "--set", "lora.alpha=32", "--seed", "3")
    also = ("--optimizer", "muon", "--arm", "hard", "--budget", "epochs", "--limit", "50", "--set", "horizon=9")
    assert curate.cli.main.main(arguments(inputs, tmp_path / "run", *more, *also)) == 0
    assert "curate evaluate" in capsys.readouterr().out
    record = read_run(tmp_path / "run")
    assert record["settings"]["lora"] == {
        "use": "curate.LoRA",
        "rank": 8,
        "alpha": 32.0,
        "dropout": 0.0,
        "targets": ["q_proj", "v_proj"],
    }
    assert record["settings"]["optimizer"]["use"].endswith(".Muon")
    assert (record["settings"]["horizon"], record["seed"], record["arm"], record["budget"]) == (9, 3, "hard", "epochs")
    assert record["data"]["rows"] == 50
    assert record["training"]["steps"] == 1
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()


def test_settings_of_an_optimizer_are_set_by_their_path() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def optimizer(*more: str) -> Any:
        return given_settings(parser.parse_args(["DATA", "--model", "m", "--out", "run", *more])).optimizer

    assert optimizer("--optimizer", "sam", "--set", "optimizer.rho=0.1") == SAM(rho=0.1)
    assert optimizer("--set", "optimizer.eps=1e-6") == AdamW(eps=1e-6)
    more = ("--set", "optimizer.base=muon", "--set", "optimizer.rho=0.2")
    assert optimizer("--optimizer", "sam", *more) == SAM(rho=0.2, base=Muon())
    assert optimizer("--optimizer", "muon", "--set", "optimizer.adamw.eps=1e-6") == Muon(adamw=AdamW(eps=1e-6))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model", "nowhere/at/all"), "(to fine-tune: --model scratch)"),
        (("--columns", "completion=nothing"), "nothing"),
        (("--set", "lora.ranks=3"), "did you mean 'rank'"),
        (("--steps", "soon"), "write a number of steps"),
        (("--optimizer", "adagrad"), "there is no optimizer 'adagrad'"),
        (("--time-limit", "0"), "above 0"),
        (("--time-limit", "nan"), "above 0"),
        (("--lora-targets", "nose"), "modules of this model are"),
        (("--log", "neptune"), "choose from tensorboard, wandb, mlflow"),
    ],
)
def test_mistakes_are_named(
    more: tuple[str, ...], message: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curate.cli.main.main(arguments(inputs, tmp_path / "run", *more)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("curate: ")
    assert message in last
    assert not (tmp_path / "run").exists()


def test_data_without_completions_is_refused(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "questions.jsonl").write_text('{"question": "1 + 1?"}\n')
    given = arguments(inputs, tmp_path / "run")
    given[1] = str(tmp_path / "questions.jsonl")
    assert curate.cli.main.main(given) == 2
    assert "prompt-only data, of which nothing can be learned; add a column `completion`" in capsys.readouterr().err


# -- interrupted ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Bench:
    """A folder with inputs and undisturbed runs of two ways to train, and the driver."""

    folder: Path
    driver: Any

    def run(self, name: str, way: str, **request: Any) -> tuple[int, str]:
        (self.folder / name).mkdir(exist_ok=True)
        more = ("--steps", "40", "--save-every", "3", "--arm", "same", "--cache", str(self.folder / name / "cache"))
        given = arguments(self.folder, self.folder / name / "run", *more, *WAYS[way])
        line = [{"arguments": given, "log": str(self.folder / name / "log"), **request}]
        self.driver.stdin.write(json.dumps(line) + "\n")
        self.driver.stdin.flush()
        (ended,) = json.loads(self.driver.stdout.readline())
        return ended["status"], ended["text"]

    def check_finished(self, name: str, way: str) -> None:
        """The same losses and weights as the undisturbed run, bit for bit, and nothing half-written."""
        whole, run = self.folder / f"whole {way}" / "run", self.folder / name / "run"
        assert losses(run) == losses(whole)
        found, expected = weights(run), weights(whole)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
        assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in whole.iterdir())


WAYS: dict[str, tuple[str, ...]] = {
    "all weights": (),
    "adapter with dropout": ("--lora", "--set", "lora.dropout=0.2"),
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="curate-finetune-"))
    write_inputs(folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fixtures.finetuning_processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as driver:
        bench = Bench(folder, driver)
        for way in WAYS:
            status, text = bench.run(f"whole {way}", way)
            assert status == 0, text
        yield bench
        assert driver.stdin is not None
        driver.stdin.close()
        driver.wait(30)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_random_steps(way: str, bench: Bench) -> None:
    steps = sorted(random.Random(way).sample(range(40), 10 if way == "all weights" else 4))
    for step in steps:
        status, text = bench.run(f"often {way}", way, step=step)
        assert status == -9, text
        reached = len(read_metrics(bench.folder / f"often {way}" / "run" / "metrics.jsonl"))
        assert reached == step
    status, text = bench.run(f"often {way}", way)
    assert status == 0, text
    bench.check_finished(f"often {way}", way)
    assert read_run(bench.folder / f"often {way}" / "run")["training"]["resumed"] == len(steps)


MOMENTS = {
    "before the metrics": ("before", r"/metrics.jsonl$"),
    "while a checkpoint is written": ("before", r"/step-000009$"),
    "before the earlier checkpoint is dropped": ("after", r"/checkpoints/step-000009$"),
    "before the weights": ("before", r"/run/model$"),
    "between weights and record": ("after", r"/run/model$"),
    "before the record": ("before", r"/run/run.json$"),
    "before the last checkpoint is dropped": ("after", r"/run/run.json$"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_rename(moment: str, bench: Bench) -> None:
    when, place = MOMENTS[moment]
    name = f"killed-{list(MOMENTS).index(moment)}"
    status, text = bench.run(name, "all weights", die={"when": when, "at": place, "signal": 9})
    assert status == -9, text
    status, text = bench.run(name, "all weights")
    assert status == 0, text
    bench.check_finished(name, "all weights")


@pytest.mark.slow
def test_terminated(bench: Bench) -> None:
    status, text = bench.run("ended", "all weights", die={"when": "after", "at": r"/step-000006$", "signal": 15})
    assert status == 143, text
    assert "rerun the same command to resume" in text
    assert bench.run("ended", "all weights")[0] == 0
    bench.check_finished("ended", "all weights")


@pytest.mark.slow
def test_a_full_disk(bench: Bench) -> None:
    """Room for metrics and marks, not for weights."""
    status, text = bench.run("full", "all weights", limit=20_000)
    assert status == 3, text
    assert re.search(r"cannot write .*/checkpoints/step-000003.*make room", text.splitlines()[-1])
    assert bench.run("full", "all weights")[0] == 0
    bench.check_finished("full", "all weights")


# -- two processes --------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(290)
@pytest.mark.parametrize("sharding", [pytest.param("none", marks=pytest.mark.long), "fsdp"])
def test_two_processes_train_what_one_trains(sharding: str, forked: Forked, inputs: Path, tmp_path: Path) -> None:
    """Stopped by a time limit after one step and begun again."""
    more: tuple[str, ...] = ("--steps", "5", "--arm", "same", "--cache", str(tmp_path / "cache"), "--device", "cpu")
    more += ("--saved-dtype", "bfloat16") if sharding == "fsdp" else ()

    def both(*also: str) -> Any:
        given = arguments(inputs, tmp_path / "two", *more, "--sharding", sharding, *also)
        return forked.run("-m", "curate", *given, ranks=2)

    stopped = both("--time-limit", "0.00001")
    assert "after 1 of 5 steps" in stopped.stderr
    assert stopped.returncode != 0
    done = both("--json")
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert curate.cli.main.main(arguments(inputs, tmp_path / "one", *more)) == 0
    alone = read_run(tmp_path / "one")
    assert (record["training"]["world_size"], record["training"]["resumed"]) == (2, 1)
    for name in ("tokens", "completion_tokens", "rows_seen", "flops"):
        assert record["training"][name] == alone["training"][name]
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4)
    found, expected = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == (torch.bfloat16 if sharding == "fsdp" else torch.float32)
        rtol = 1e-2 if sharding == "fsdp" else 1e-3
        torch.testing.assert_close(found[name], expected[name], rtol=rtol, atol=2e-3)


def test_the_command_takes_a_reweighter_by_name_or_whole(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["finetune", str(inputs / "data.jsonl"), "--model", str(inputs / "model"), "--steps", "2", "--json"]
    usual += ["--batch-size", "8", "--max-length", "64"]

    def called(*more: str) -> tuple[int, dict[str, Any]]:
        status = curate.cli.main.main([*usual, "--out", str(tmp_path / f"run{len(list(tmp_path.iterdir()))}"), *more])
        return status, json.loads(capsys.readouterr().out)

    status, record = called("--reweighter", "dynamicloss", "--set", "reweighter.r=0.5")
    assert status == 0
    assert record["settings"]["reweighter"]["r"] == 0.5
    status, record = called("--reweighter", f"{{use: ADAPT, anchors: {inputs / 'data.jsonl'}, similarity: bm25}}")
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
