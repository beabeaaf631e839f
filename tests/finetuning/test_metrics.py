"""Metrics: their numbers, the loggers that get them, and the line on the terminal."""

from __future__ import annotations

import sys
import types
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import curate
import curate.training.step
from curate.errors import ExternalError, InputError
from curate.finetuning.finetune import finetune
from curate.finetuning.metrics import Monitor, read_metrics
from curate.models import load_model
from curate.models.batches import make_batch
from curate.tokenization.encoding import tokenize
from curate.training.config import StepRecord
from tests.fixtures.finetuning import losses, settings, table


def test_metrics_are_those_of_the_step(model: str, tmp_path: Path) -> None:
    """One optimizer batch that is the whole data, against transformers alone."""
    data = table(8)
    finetune(data, settings(model, steps=2, schedule="linear", warmup_ratio=0), tmp_path / "run")
    first, second = read_metrics(tmp_path / "run" / "metrics.jsonl")
    own = load_model(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = tokenize(curate.read(data).examples, tokenizer, template="alpaca", max_length=64)
    batch = make_batch(tokens, np.arange(8))
    labels = batch.labels[:, 1:]
    logits = own(input_ids=batch.input_ids).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in own.parameters() if p.grad is not None])
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert (first["learning_rate"], second["learning_rate"]) == (0.01, 0.005)
    assert (first["epoch"], second["epoch"]) == (1.0, 2.0)
    assert (first["tokens"], second["tokens"]) == (len(tokens.ids), 2 * len(tokens.ids))


# -- metrics elsewhere, and arithmetic ------------------------------------------------------------------------------


def test_loggers_are_given_every_line(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {"scalars": [], "lines": [], "closed": 0}

    class SummaryWriter:
        def __init__(self, directory: str, purge_step: int) -> None:
            seen["started"] = (directory, purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen["scalars"].append((name, step))

        def close(self) -> None:
            seen["closed"] += 1

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            seen["lines"].append((step, values))

        def finish(self) -> None:
            seen["closed"] += 1

    def init(**arguments: Any) -> Run:
        seen["wandb"] = arguments
        return Run()

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    run = tmp_path / "run"
    finetune(table(), settings(model, steps=3), run, log=("tensorboard", "wandb"))
    lines = read_metrics(run / "metrics.jsonl")
    assert seen["started"] == (str(run / "tensorboard"), 1)
    assert [step for name, step in seen["scalars"] if name == "loss"] == [1, 2, 3]
    assert seen["lines"] == [(line.pop("step"), line) for line in lines]
    assert seen["closed"] == 2
    assert seen["wandb"]["mode"] == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    finetune(table(), settings(model, steps=1), tmp_path / "online", log=("wandb",))
    assert seen["wandb"]["mode"] == "online"
    assert "secret" not in repr(seen["wandb"])


def test_a_logger_that_is_not_there_is_named(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="choose from tensorboard, wandb, mlflow"):
        finetune(table(), settings(model), tmp_path / "run", log=("neptune",))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"curate-lm\[wandb\]"):
        finetune(table(), settings(model), tmp_path / "run", log=("wandb",))
    assert not (tmp_path / "run").exists()  # said before anything is done


@pytest.mark.parametrize("every", [2, 4])
def test_lines_are_as_far_apart_as_asked(every: int, model: str, tmp_path: Path) -> None:
    finetune(table(), settings(model, steps=5, log_every=every), tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [*range(every, 5, every), 5]
    assert set(lines[0]) == {
        *("step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "seconds")
    }
    assert all(b["tokens"] > a["tokens"] and b["seconds"] > a["seconds"] for a, b in pairwise(lines))


@pytest.mark.parametrize(("gradients", "share"), [(1, "25%"), (2, "50%")])
def test_the_line_on_the_terminal_has_loss_rate_share_of_peak_and_time_left(gradients: int, share: str) -> None:
    monitor = Monitor(10, batch_size=8, rows=40, log_every=1, operations=1000.0, peak=8000.0)
    first, second = (StepRecord(k, 1.25, 1e-3, 1.0, gradients, 100 * k, 0.5 * k, 4096) for k in (1, 2))
    assert monitor.step(first, None) == "loss 1.250"
    assert monitor.step(second, None) == f"loss 1.250, 200 tokens/s, {share} of peak, 4.0 s left"


def test_metrics_of_steps_that_are_done_again_are_replaced(model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ExternalError):
        finetune(table(), settings(model), run, time_limit=0)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "epoch": 1.0, "loss": 99.0, "tokens": 5, "seconds": 1.0}\n{"step": 3, "lo')
    finetune(table(), settings(model), run)
    assert len(losses(run)) == 6
    assert 99.0 not in losses(run)


def test_a_function_of_ones_own_is_called_with_every_line(model: str, tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    finetune(table(), settings(model, steps=3), tmp_path / "run", log=(lambda *line: seen.append(line),))
    assert seen == [(line.pop("step"), line) for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]


def test_mlflow_itself_keeps_what_it_is_given(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = tmp_path / "run"
    finetune(table(), settings(model, steps=3), run, arm="hard", log=("mlflow",))
    client = mlflow.MlflowClient(tracking_uri=(run / "mlruns").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("curate").experiment_id])
    losses = [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, "loss")]
    assert losses == [(line["step"], line["loss"]) for line in read_metrics(run / "metrics.jsonl")]
    assert found.data.params["arm"] == "hard"
    assert found.info.status == "FINISHED"


def test_tensorboard_itself_reads_what_it_was_given(model: str, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    finetune(table(), settings(model, steps=3), run, log=("tensorboard",))
    found = reader.EventAccumulator(str(run / "tensorboard")).Reload()
    losses = [line["loss"] for line in read_metrics(run / "metrics.jsonl")]
    assert [each.step for each in found.Scalars("loss")] == [1, 2, 3]
    assert [each.value for each in found.Scalars("loss")] == pytest.approx(losses)
