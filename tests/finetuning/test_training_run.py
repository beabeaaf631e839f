"""A run that is stopped, killed or short of memory goes on as if nothing had happened."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import curate
import curate.finetuning.signals as stopping
import curate.finetuning.training_run as training
import curate.training.step
from curate.console.progress import Progress
from curate.errors import ExternalError, InputError
from curate.finetuning import LoRA, finetune, read_run
from curate.optimizers import SAM, Muon
from curate.training.row_order import RowOrder
from tests.fixtures.finetuning import ROWS, losses, same, settings, table, weights


@pytest.mark.parametrize("lora", [None, LoRA()])
def test_gradient_checkpointing_changes_no_loss(lora: LoRA | None, model: str, tmp_path: Path) -> None:
    found = []
    for wanted in (False, True):
        run = tmp_path / str(wanted)
        finetune(table(), settings(model, lora=lora, gradient_checkpointing=wanted), run)
        found.append(losses(run))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert found[0][-1] < found[0][0]


# -- interruptions --------------------------------------------------------------------------------------------------
WAYS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "adapter with dropout": {"lora": LoRA(dropout=0.3)},
    "SAM": {"optimizer": SAM()},
    "Muon": {"optimizer": Muon()},
}


@pytest.mark.parametrize("way", WAYS)
def test_stopped_after_every_step_and_begun_again(way: str, model: str, tmp_path: Path) -> None:
    """A time limit that is always reached: every call makes one step, and the last finds nothing left."""
    chosen = settings(model, steps=4, **WAYS[way])
    whole = finetune(table(), chosen, tmp_path / "whole", arm="same")
    part = tmp_path / "part"
    for step in (1, 2, 3):
        with pytest.raises(ExternalError, match=f"after {step} of 4 steps"):
            finetune(table(), chosen, part, arm="same", time_limit=0)
        assert [path.name for path in (part / "checkpoints").iterdir()] == [f"step-{step:06d}"]
        with pytest.raises(InputError, match="is not finished"):
            read_run(part)
    record = finetune(table(), chosen, part, arm="same", time_limit=0)
    assert losses(part) == losses(tmp_path / "whole")
    assert same(weights(part), weights(tmp_path / "whole"))
    assert record["training"]["resumed"] == 3
    assert record["training"]["tokens"] == whole["training"]["tokens"]
    assert not (part / "checkpoints").exists()


def test_when_checkpoints_are_made_leaves_no_trace(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, every in (("never", None), ("often", 1)):
        finetune(table(), settings(model, save_every=every), tmp_path / name, arm="same")
    monkeypatch.setattr(training, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "_SAVE_RATIO", 0)
    finetune(table(), settings(model), tmp_path / "clock", arm="same")
    for name in ("often", "clock"):
        assert same(weights(tmp_path / name), weights(tmp_path / "never"))
        assert losses(tmp_path / name) == losses(tmp_path / "never")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_obeyed_once_the_step_is_saved(
    number: signal.Signals, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end(*_: Any) -> None:
        raise Ended

    calls: list[int] = []
    real = curate.training.step.Gradient.__call__

    def signalled(self: Any, **arguments: Any) -> float:
        calls.append(self.step)
        if self.step in at:
            for _ in range(times):
                signal.raise_signal(number)
        return real(self, **arguments)

    monkeypatch.setattr(curate.training.step.Gradient, "__call__", signalled)
    before = signal.signal(number, end)
    run, at, times = tmp_path / "run", {2}, 1
    try:
        with pytest.raises(Ended):
            finetune(table(), settings(model), run, arm="same")
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000003"]
        at = {4}
        monkeypatch.setattr(stopping, "_ECHO_SECONDS", -1.0)
        times = 2
        with pytest.raises(Ended):  # at once the second time, and the step is lost
            finetune(table(), settings(model), run, arm="same")
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000003"]
        monkeypatch.undo()
        at = {5}
        monkeypatch.setattr(curate.training.step.Gradient, "__call__", signalled)
        times = 1
        with pytest.raises(Ended):  # in the last step: the run is finished first
            finetune(table(), settings(model), run, arm="same")
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert calls == [0, 1, 2, 3, 4, 3, 4, 5]
    at = set()
    finetune(table(), settings(model), tmp_path / "whole", arm="same")
    assert losses(run) == losses(tmp_path / "whole")
    assert same(weights(run), weights(tmp_path / "whole"))


def test_halves_of_checkpoints_are_cleared_when_a_run_goes_on(model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ExternalError):
        finetune(table(), settings(model), run, time_limit=0)
    for left in (".step-000002.partial-0-1-ab", ".step-000000.dropped-7", "step-000000"):
        (run / "checkpoints" / left).mkdir()
    with pytest.raises(ExternalError, match="after 2 of 6"):
        finetune(table(), settings(model), run, time_limit=0)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]


def test_an_adapter_run_keeps_no_frozen_weights(model: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalError):
        finetune(table(), settings(model, lora=LoRA()), tmp_path / "run", time_limit=0)
    kept = load_file(tmp_path / "run" / "checkpoints" / "step-000001" / "model.safetensors")
    assert kept
    assert all("lora" in name for name in kept)


def test_metrics_of_steps_that_are_done_again_are_replaced(model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ExternalError):
        finetune(table(), settings(model), run, time_limit=0)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "epoch": 1.0, "loss": 99.0, "tokens": 5, "seconds": 1.0}\n{"step": 3, "lo')
    finetune(table(), settings(model), run)
    assert len(losses(run)) == 6
    assert 99.0 not in losses(run)


# -- when training goes wrong ---------------------------------------------------------------------------------------


def test_a_run_that_diverges_names_its_rows_and_keeps_its_checkpoint(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, planted = tmp_path / "run", 7
    real = curate.training.step.batch_losses
    assert planted in RowOrder(np.arange(ROWS), 8, 0).batch(2)  # so that there are checkpoints before it

    def broken(model: Any, batch: Any) -> torch.Tensor:
        sums = real(model, batch)
        return sums * torch.where(batch.rows == planted, torch.inf, 1.0)

    monkeypatch.setattr(curate.training.step, "batch_losses", broken)
    with pytest.raises(InputError, match=r"lower learning_rate.*row ids saved in") as caught:
        finetune(table(), settings(model, save_every=1, steps=20), run)
    found = json.loads(Path(str(caught.value).split("row ids saved in ")[1]).read_text())
    assert found["example_ids"] == [curate.read(table()).examples.ids[planted].as_py()]
    assert (run / "checkpoints" / f"step-{found['step']:06d}").is_dir()
    assert not (run / "run.json").exists()
    with pytest.raises(InputError, match=r"diverged, at the rows that diverged\.json names"):
        read_run(run)
    monkeypatch.undo()
    finetune(table(), settings(model, steps=1), run, fresh=True)
    assert not (run / "diverged.json").exists()


def test_a_last_update_that_breaks_the_weights_is_no_success(model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = {"warmup_ratio": 0, "schedule": "constant", "weight_decay": 1e5}
    with pytest.raises(InputError, match=r"weights .* not finite after 1 optimizer steps.*row ids saved in"):
        finetune(table(), settings(model, learning_rate=1e38, steps=1, **changes), run)
    ids = curate.read(table()).examples.ids
    last = RowOrder(np.arange(ROWS), 8, 0).batch(0)
    found = json.loads((run / "diverged.json").read_text())
    assert found == {"step": 1, "example_ids": [ids[row].as_py() for row in last]}
    assert not (run / "run.json").exists()
    assert not (run / "model").exists()


def test_smaller_micro_batches_after_running_out_of_memory_are_kept(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, sizes = curate.training.step.batch_losses, []

    def limited(model: Any, batch: Any) -> torch.Tensor:
        sizes.append(batch.input_ids.numel())
        if sizes[-1] > 120:
            raise torch.OutOfMemoryError("out of memory")
        return real(model, batch)

    monkeypatch.setattr(curate.training.step, "batch_losses", limited)
    run = tmp_path / "run"
    chosen = settings(model, steps=3)
    with pytest.raises(ExternalError):
        finetune(table(), chosen, run, time_limit=0, progress=Progress("lines"))
    assert max(sizes) > 120
    assert "out of memory" in capsys.readouterr().err
    sizes.clear()
    record = finetune(table(), chosen, run)
    assert max(sizes) <= 120  # not tried again at the size that did not fit
    assert record["training"]["micro_batch_tokens"] < 4096


def test_larger_micro_batches_count_when_a_run_goes_on(model: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalError):
        finetune(table(), settings(model, micro_batch_tokens=100), tmp_path / "run", time_limit=0)
    record = finetune(table(), settings(model, micro_batch_tokens=900), tmp_path / "run")
    assert record["training"]["micro_batch_tokens"] == 900
