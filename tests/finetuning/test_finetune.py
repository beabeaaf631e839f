"""A fine-tuning run: the training loop on these rows, and a record that says what was done."""

from __future__ import annotations

import json
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.distributed.fsdp import fully_shard

import curate
import curate.training.step
from curate.console.progress import Progress
from curate.errors import InputError
from curate.finetuning import Finetuning, LoRA, finetune, finetuning_from, read_run
from curate.finetuning.flops import arithmetic
from curate.finetuning.metrics import read_metrics
from curate.finetuning.saving import save_model
from curate.models import load_model
from curate.models.batches import make_batch
from curate.models.forward import batch_losses
from curate.optimizers import SAM, AdamW, Muon
from curate.tokenization.encoding import tokenize
from curate.training.fsdp import whole
from curate.training.loop import train
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


def test_the_record_says_what_was_done(model: str, tmp_path: Path) -> None:
    curation = {"seconds": 1.5, "tokens": 9, "proxy_parameters": 3, "requests": 0, "generated_tokens": 0}
    chosen = settings(model, steps="1 epoch", optimizer=SAM())
    record = finetune(table(), chosen, tmp_path / "run", arm="hard", budget="epochs", curation=curation)
    assert {name: record[name] for name in ("kind", "arm", "seed", "budget", "template", "max_length", "curation")} == {
        "kind": "finetune",
        "arm": "hard",
        "seed": 0,
        "budget": "epochs",
        "template": "alpaca",
        "max_length": 64,
        "curation": curation,
    }
    assert record["data"] == {
        "description": "pyarrow.Table",
        "fingerprint": curate.read(table()).examples.fingerprint(),
        "rows": ROWS,
        "valid": ROWS,
        "refused": 0,
        **{name: record["data"][name] for name in ("truncated", "prompts_cut", "completions_cut")},
        "origins": {"original": ROWS},
        "reading": {},
    }
    found = record["training"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = tokenize(curate.read(table()).examples, tokenizer, template="alpaca", max_length=64)
    assert (found["steps"], found["epochs"], found["rows_seen"]) == (5, 1.0, ROWS)
    assert found["tokens"] == len(tokens.ids)
    assert found["completion_tokens"] == int(tokens.supervised.sum())
    assert found["gradients_per_step"] == 2
    assert found["flops"] == pytest.approx(2 * arithmetic(load_model(model)).of(tokens, np.arange(ROWS)))
    assert (found["precision"], found["device"], found["world_size"], found["resumed"]) == ("float32", "cpu", 1, 0)
    assert (found["loss_first"], found["loss_last"]) == (losses(tmp_path / "run")[0], losses(tmp_path / "run")[-1])
    assert finetuning_from(record["settings"]) == chosen
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.jsonl", "model", "run.json"]


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


def test_bfloat16_weights_are_the_rounded_ones(model: str, tmp_path: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        finetune(table(), settings(model, steps=2, saved_dtype=dtype), tmp_path / dtype)
        finetune(table(), settings(model, steps=2, saved_dtype=dtype, lora=LoRA()), tmp_path / f"{dtype} adapter")
    for kind in ("", " adapter"):
        exact, rounded = weights(tmp_path / f"float32{kind}"), weights(tmp_path / f"bfloat16{kind}")
        assert exact.keys() == rounded.keys()
        assert all(torch.equal(rounded[name], exact[name].bfloat16()) for name in exact)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "bfloat16" / "model").dtype == torch.bfloat16
    assert (tmp_path / "float32" / "model").is_dir()
    targets = json.loads((tmp_path / "bfloat16 adapter/adapter/adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)


def test_weights_that_were_sharded_are_rounded_too(model: str, tmp_path: Path) -> None:
    """In a process group of one; FSDP2 lets nobody convert such a model in place."""
    own = load_model(model)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        fully_shard(own)
        with whole(own, keep=True):
            pass
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        tokens = tokenize(curate.read(table()).examples, tokenizer, template="alpaca", max_length=64)
        job: Any = types.SimpleNamespace(
            settings=settings(model, saved_dtype="bfloat16"),
            tokenizer=tokenizer,
            template="alpaca",
            tokens=tokens,
            out=tmp_path,
        )
        save_model(job, own, own)
    finally:
        torch.distributed.destroy_process_group()
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert found.dtype == torch.bfloat16
    assert found.config.architectures == load_model(model).config.architectures
    assert all(torch.equal(found.state_dict()[name], before[name].bfloat16()) for name in before)
    assert all(torch.equal(own.state_dict()[name], before[name]) for name in before)


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


# -- settings -------------------------------------------------------------------------------------------------------


def test_lengths_and_rates() -> None:
    assert Finetuning(model="m").total_steps(1000) == 94  # three epochs of 31.25
    assert Finetuning(model="m", steps=7).total_steps(1000) == 7
    assert Finetuning(model="m", steps="1/2 epoch", batch_size=10).train_config(1000).horizon_steps == 50
    assert Finetuning(model="m", steps=5, horizon="2 epochs", batch_size=10).train_config(100).horizon_steps == 20
    assert Finetuning(model="m", steps=50, horizon=3).train_config(100).horizon_steps == 50
    rates = [Finetuning(model="m"), Finetuning(model="m", lora=LoRA()), Finetuning(model="scratch")]
    assert [each.peak_learning_rate for each in rates] == [2e-5, 2e-4, 1e-3]
    with pytest.raises(ValueError, match="write a number of steps"):
        Finetuning(model="m", steps="three epochs")
    with pytest.raises(ValueError, match="leave one of them out"):
        Finetuning(model="m", lora=LoRA(), sharding="fsdp")


def test_the_record_holds_defaults_too(model: str, tmp_path: Path) -> None:
    chosen = settings(model, steps=1, optimizer=SAM(base=Muon()), lora=LoRA(), learning_rate=None)
    record = finetune(table(), chosen, tmp_path / "run")
    found = record["settings"]
    assert set(found) == set(Finetuning.model_fields)
    assert (found["lora"]["rank"], found["optimizer"]["rho"]) == (8, 0.05)
    assert found["optimizer"]["base"]["momentum"] == 0.95
    assert found["optimizer"]["base"]["adamw"]["betas"] == [0.9, 0.999]
    assert record["training"]["learning_rate"] == 2e-4
    assert finetuning_from(json.loads(json.dumps(found))) == chosen


def test_muon_from_scratch_has_a_rate_of_its_own() -> None:
    def rate(**changes: Any) -> float | None:
        optimizer = Finetuning(**changes).train_config(100).optimizer
        found: float | None = getattr(optimizer, "base", optimizer).learning_rate
        return found

    for given in (Muon(), SAM(base=Muon())):
        assert rate(model="scratch", optimizer=given) == 0.02
        assert rate(model="m", optimizer=given) is None
    assert rate(model="scratch", optimizer=Muon(learning_rate=0.1)) == 0.1
    assert rate(model="scratch") is None
    own, named = (Finetuning(model="scratch", optimizer=Muon(learning_rate=each)) for each in (None, 0.02))
    assert own.decisive() == named.decisive()


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


def test_a_run_is_not_taken_for_a_model(model: str, tmp_path: Path) -> None:
    finetune(table(), settings(model, steps=1), tmp_path / "whole")
    finetune(table(), settings(model, steps=1, lora=LoRA()), tmp_path / "adapted")
    with pytest.raises(InputError, match=r"is a run, not a model; its weights are --model .*whole/model"):
        finetune(table(), settings(str(tmp_path / "whole")), tmp_path / "out")
    for place in (tmp_path / "adapted", tmp_path / "adapted" / "adapter"):
        with pytest.raises(InputError, match=r"holds an adapter.*curate expo .* --alpha 0"):
            finetune(table(), settings(str(place)), tmp_path / "out")


def test_settings_are_read_as_they_are_written() -> None:
    found = finetuning_from(
        {
            "model": "m",
            "lora": {"targets": ["q_proj"]},
            "optimizer": {"use": "SAM", "rho": 0.1, "base": {"use": "Muon"}},
        }
    )
    assert found == Finetuning(model="m", lora=LoRA(targets=("q_proj",)), optimizer=SAM(rho=0.1, base=Muon()))
    assert finetuning_from({"model": "m", "optimizer": "adamw"}).optimizer == AdamW()
    assert finetuning_from({"model": "m", "optimizer": {"eps": 1e-6}}).optimizer == AdamW(eps=1e-6)
    with pytest.raises(InputError, match="did you mean 'batch_size'"):
        finetuning_from({"model": "m", "batchsize": 3})
    with pytest.raises(InputError, match="there is no optimizer 'lion'; choose one of AdamW"):
        finetuning_from({"model": "m", "optimizer": "lion"})


def test_no_warning_of_other_libraries_comes_through(model: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        finetune(table(), settings(model, steps=1, lora=LoRA()), tmp_path / "run")
    assert [str(each.message) for each in caught] == []
