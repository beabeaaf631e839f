"""A run is the training loop on its rows; stopped, killed or short of memory it resumes as if nothing had happened."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import curate
import curate.training.step
from curate.console.progress import Progress
from curate.errors import ExternalError, InputError
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA
from curate.finetuning.run_folder import read_run
from curate.models import load_model
from curate.models.batches import make_batch
from curate.models.forward import batch_losses
from curate.optimizers import SAM, Muon
from curate.tokenization.encoding import tokenize
from curate.training.loop import train
from curate.training.row_order import RowOrder
from tests.fixtures.finetuning import ROWS, losses, same, settings, table, weights

# -- what a run leaves ----------------------------------------------------------------------------------------------


def test_a_run_is_the_training_loop_on_these_rows(model: str, tmp_path: Path) -> None:
    chosen = settings(model)
    record = finetune(table(), chosen, tmp_path / "run", arm="original", budget="steps")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = tokenize(curate.read(table()).examples, tokenizer, template="alpaca", max_length=64)
    own = load_model(model)
    *_, last = train(own, tokens, chosen.train_config(ROWS), checkpoint_steps=[6])

    assert losses(tmp_path / "run") == last.losses
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert trained.dtype == torch.float32
    own.eval()
    trained.eval()
    batch = make_batch(tokens, [0, 1, 2])
    with torch.no_grad():
        assert torch.equal(batch_losses(trained, batch), batch_losses(own, batch))
    assert trained.generation_config.eos_token_id == tokenizer.eos_token_id
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model").get_vocab() == tokenizer.get_vocab()
    assert record == read_run(tmp_path / "run")


def test_the_seed_decides_and_nothing_else_does(model: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(hash(name) % 1000)
        finetune(table(), settings(model, seed=seed), tmp_path / name, arm="same")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_from_scratch(tmp_path: Path) -> None:
    record = finetune(table(), settings("scratch", learning_rate=None, steps=3), tmp_path / "run")
    assert record["template"] == "plain"
    assert record["model"]["trainable"] == record["model"]["parameters"] > 10_000
    assert load_model(str(tmp_path / "run" / "model")).config.vocab_size > 100


def test_learning_rates_that_nobody_expects_are_told(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(**changes: Any) -> str:
        chosen = settings(model, steps=1, **changes)
        finetune(table(), chosen, tmp_path / "run", progress=Progress("lines"), fresh=True)
        return capsys.readouterr().err

    found = told(optimizer=SAM(base=Muon(weight_decay=0.1)), weight_decay=0.3)
    assert "hidden matrices at a peak rate of 0.0002 with weight decay 0.1 (--set optimizer.base.learning_rate" in found
    assert "the rest at 0.01 with 0.3" in found
    assert "nothing will be learned; set warmup_ratio=0" in found
    found = told(warmup_ratio=0)
    assert "Muon" not in found
    assert "nothing will be learned" not in found


def test_no_warning_of_other_libraries_comes_through(model: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        finetune(table(), settings(model, steps=1, lora=LoRA()), tmp_path / "run")
    assert [str(each.message) for each in caught] == []


@pytest.mark.parametrize("lora", [None, LoRA()])
def test_gradient_checkpointing_changes_no_loss(lora: LoRA | None, model: str, tmp_path: Path) -> None:
    found = []
    for wanted in (False, True):
        run = tmp_path / str(wanted)
        finetune(table(), settings(model, lora=lora, gradient_checkpointing=wanted), run)
        found.append(losses(run))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert found[0][-1] < found[0][0]


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
    module = sys.modules[finetune.__module__]  # its name in the package is that of the function
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(module, "_SAVE_RATIO", 0)
    finetune(table(), settings(model), tmp_path / "clock", arm="same")
    for name in ("often", "clock"):
        assert same(weights(tmp_path / name), weights(tmp_path / "never"))
        assert losses(tmp_path / name) == losses(tmp_path / "never")


def test_an_adapter_run_keeps_no_frozen_weights(model: str, tmp_path: Path) -> None:
    with pytest.raises(ExternalError):
        finetune(table(), settings(model, lora=LoRA()), tmp_path / "run", time_limit=0)
    kept = load_file(tmp_path / "run" / "checkpoints" / "step-000001" / "model.safetensors")
    assert kept
    assert all("lora" in name for name in kept)


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
