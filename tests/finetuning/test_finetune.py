"""Fine-tuning runs: what a run folder holds, that interruptions leave no trace, and adapters against peft itself."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import types
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.fsdp import fully_shard
from torch.utils.flop_counter import FlopCounterMode

import curate
import curate.finetuning.signals as stopping
import curate.finetuning.training_run as training
import curate.training.step
from curate.console.progress import Progress
from curate.errors import DataWarning, ExternalError, InputError
from curate.finetuning import Finetuning, LoRA, finetune, finetuning_from, read_run
from curate.finetuning.flops import arithmetic, peak_rate
from curate.finetuning.lora import merged, with_adapter
from curate.finetuning.metrics import read_metrics
from curate.finetuning.saving import save_model
from curate.models.batches import make_batch, pack_batch
from curate.models.forward import allow_packing, batch_losses
from curate.models.loading import load_model
from curate.optimizers import SAM, AdamW, Muon
from curate.storage.records import record_text
from curate.tokenization.encoding import tokenize
from curate.training.config import StepRecord, TrainConfig
from curate.training.fsdp import whole
from curate.training.loop import train
from curate.training.row_order import RowOrder
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.tokenizers import CHATML, byte_level

ROWS = 40


def table(rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(0)
    sums = [(int(a), int(b)) for a, b in rng.integers(0, 1000, (rows, 2))]
    return pa.table(
        {
            "prompt": [f"What is {a} plus {b}?" for a, b in sums],
            "completion": [f"The answer is {a + b}." + " Yes." * (k % 4) for k, (a, b) in enumerate(sums)],
        }
    )


def write_model(folder: Path, tokenizer: Any, family: str = "llama_tied", **changes: Any) -> str:
    """A tiny random model with its tokenizer, as a folder."""
    model = tiny_model(
        family,
        vocab_size=changes.pop("vocab_size", len(tokenizer)),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        **changes,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", byte_level())


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(model: str, **changes: Any) -> Finetuning:
    usual = {"steps": 6, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32", "max_length": 64}
    return Finetuning(model=model, **{**usual, **changes})


def weights(run: Path) -> dict[str, torch.Tensor]:
    (file,) = [*run.glob("model/*.safetensors"), *run.glob("adapter/*.safetensors")]
    return load_file(file)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(run: Path) -> list[float]:
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


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


# -- adapters -------------------------------------------------------------------------------------------------------


def stirred(adapted: Any) -> Any:
    """With random B, so that forgetting an adapter shows."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return adapted


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox"])
def test_losses_of_the_inner_model_are_those_of_peft(family: str) -> None:
    tokens = random_tokens([(3, 9), (5, 4), (2, 14)])
    plain = tiny_model(family)
    batch = make_batch(tokens, [0, 1, 2])
    with torch.no_grad():
        before = batch_losses(plain, batch)
    adapted = stirred(with_adapter(plain, LoRA(rank=3), 0))
    assert adapted.get_base_model() is plain
    adapted.eval().requires_grad_(False)
    logits = adapted(input_ids=batch.input_ids).logits[:, :-1].float()
    labels = batch.labels[:, 1:]
    expected = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
    ).sum(1)
    found = batch_losses(plain, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert float((found - before).abs().min()) > 1e-2
    if family == "llama":
        assert allow_packing(plain)
        torch.testing.assert_close(batch_losses(plain, pack_batch(tokens, [0, 1, 2])), expected, rtol=1e-5, atol=1e-4)


def test_only_the_factors_are_trained() -> None:
    inner = with_adapter(tiny_model("llama"), LoRA(), 0).get_base_model()
    trained = {name for name, parameter in inner.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any("lm_head" in name for name in trained)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_tied_weights_have_no_adapter(target: str) -> None:
    """Merged into one of the two uses of a matrix it would change the other, which it did not in training."""
    with pytest.raises(InputError, match=rf"{target} shares its weights .* leave it out"):
        with_adapter(tiny_model("llama_tied"), LoRA(targets=("q_proj", target)), 0)


def test_an_adapter_on_the_head_is_not_passed_over() -> None:
    tokens = random_tokens([(3, 9), (5, 4)])
    plain = tiny_model("llama")
    batch = make_batch(tokens, [0, 1])
    with torch.no_grad():
        before = batch_losses(plain, batch)
        stirred(with_adapter(plain, LoRA(targets=("lm_head",)), 0)).eval()
        assert float((batch_losses(plain, batch) - before).abs().min()) > 1e-2


@pytest.mark.filterwarnings("ignore::FutureWarning")  # between peft and transformers
def test_an_adapter_can_be_loaded_and_merged(model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record = finetune(table(), settings(model, lora=LoRA(rank=4)), run)
    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    loaded = PeftModel.from_pretrained(base, run / "adapter").eval()
    whole = merged(run)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = loaded(input_ids=ids).logits
        torch.testing.assert_close(whole(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
        unadapted = transformers.AutoModelForCausalLM.from_pretrained(model)(input_ids=ids).logits
    assert float((unadapted - expected).abs().max()) > 1e-2
    assert all("lora" in name for name in weights(run))
    assert record["model"]["trainable"] == sum(tensor.numel() for tensor in weights(run).values())
    assert not (run / "model").exists()
    assert whole.generation_config.eos_token_id == base.generation_config.eos_token_id
    transformers.AutoTokenizer.from_pretrained(run / "adapter")


def test_merged_takes_whole_models_and_refuses_a_changed_base(model: str, tmp_path: Path) -> None:
    finetune(table(), settings(model, steps=1), tmp_path / "whole")
    assert same(
        dict(merged(tmp_path / "whole").state_dict()), dict(load_model(str(tmp_path / "whole/model")).state_dict())
    )
    base = write_model(tmp_path / "base", byte_level())
    finetune(table(), settings(base, steps=1, lora=LoRA()), tmp_path / "adapted")
    write_model(tmp_path / "base", byte_level(), seed=5)
    with pytest.raises(InputError, match="has changed since"):
        merged(tmp_path / "adapted")


def test_first_factors_come_from_the_seed() -> None:
    def factors(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(torch.seed() % 1000)
        inner = with_adapter(tiny_model(), LoRA(), seed).get_base_model()
        return {name: p.detach() for name, p in inner.named_parameters() if p.requires_grad}

    state = torch.get_rng_state()
    with_adapter(tiny_model(), LoRA(), 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(factors(0), factors(0))
    assert not same(factors(0), factors(1))


def test_a_target_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"lora.targets = \['qq'\].*modules of this model are .*q_proj"):
        with_adapter(tiny_model(), LoRA(targets=("qq",)), 0)


def test_without_peft_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'curate-lm\[lora\]'"):
        with_adapter(tiny_model(), LoRA(), 0)


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


# -- whose folder it is ---------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = finetune(table(), settings(model, steps=1), tmp_path / "run")
    file = tmp_path / "run" / "model" / "model.safetensors"
    before = file.stat().st_mtime_ns
    moved = shutil.copytree(model, tmp_path / "moved")  # the same model by another name
    again = settings(str(moved), steps=1, save_every=3, micro_batch_tokens=50, gradient_checkpointing=True)
    assert finetune(table(), again, tmp_path / "run", progress=Progress("lines")) == first
    assert file.stat().st_mtime_ns == before
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("unfinished", [False, True])
def test_another_run_does_not_take_its_place(unfinished: bool, model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if unfinished:
        with pytest.raises(ExternalError):
            finetune(table(), settings(model, steps=2), run, time_limit=0)
    else:
        finetune(table(), settings(model, steps=2), run)
    (run / "evaluation").mkdir()
    others: list[tuple[Any, Finetuning, dict[str, Any]]] = [
        (table(), settings(model, steps=2, learning_rate=1e-3), {}),
        (table(), settings(model, steps=2, optimizer=SAM()), {}),
        (table(ROWS - 1), settings(model, steps=2), {}),
        (table(), settings(model, steps=2), {"arm": "other"}),
    ]
    for data, chosen, named in others:
        with pytest.raises(InputError, match="pass --fresh"):
            finetune(data, chosen, run, **named)
    finetune(table(), settings(model, steps=3), run, fresh=True)
    assert len(losses(run)) == 3
    assert not (run / "evaluation").exists()


def test_other_files_are_left_alone(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(InputError, match=r"holds other files \(mine.txt\)"):
            finetune(table(), settings(model), tmp_path, fresh=fresh)
    with pytest.raises(InputError, match="is a file"):
        finetune(table(), settings(model), tmp_path / "mine.txt")


def test_read_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no fine-tuning run"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(record_text({"kind": "expo"}))
    with pytest.raises(InputError, match="not that of a fine-tuning run"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(record_text({"kind": "finetune"}))
    with pytest.raises(InputError, match="has lost its weights"):
        read_run(tmp_path)


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


# -- tokenizers and models of all sorts -----------------------------------------------------------------------------


def test_a_tokenizer_without_end_of_sequence_is_warned_about(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = tokenizer.pad_token = None
    folder = write_model(tmp_path / "model", tokenizer)
    with pytest.warns(DataWarning, match="no end-of-sequence token"):
        finetune(table(), settings(folder, steps=1), tmp_path / "run")
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert trained.generation_config.eos_token_id is None


def test_a_chat_model_stops_where_its_turns_end(tmp_path: Path) -> None:
    """The end of text is another token than the end of a turn, as in base models with a chat template."""
    tokenizer = byte_level(chat=CHATML)
    folder = write_model(tmp_path / "model", tokenizer)
    turns = [
        [{"role": "user", "content": f"What is {k}?"}, {"role": "assistant", "content": f"It is {k}."}]
        for k in range(9)
    ]
    record = finetune(pa.table({"messages": turns}), settings(folder, steps=1, max_length=200), tmp_path / "run")
    assert record["template"] == "chat"
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    mark = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert trained.generation_config.eos_token_id == [mark, tokenizer.eos_token_id]


def test_messages_need_no_chat_template(model: str, tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"{k}?"}, {"role": "assistant", "content": f"{k}."}] for k in range(9)]
    record = finetune(pa.table({"messages": turns}), settings(model, steps=1), tmp_path / "run")
    assert record["data"]["valid"] == 9


def test_tokens_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = write_model(tmp_path / "model", tokenizer, vocab_size=200)
    with pytest.raises(InputError, match="resize_token_embeddings"):
        finetune(table(), settings(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["llama", "llama_tied"])
def test_embeddings_beyond_the_vocabulary_do_no_harm(family: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = write_model(tmp_path / "model", tokenizer, family, vocab_size=len(tokenizer) + 37)
    finetune(table(), settings(folder, steps=1), tmp_path / "run")
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tied = trained.get_output_embeddings().weight is trained.get_input_embeddings().weight
    assert tied == (family == "llama_tied")
    assert trained.get_input_embeddings().weight.shape[0] == len(tokenizer) + 37


def test_rows_without_answers_are_refused_where_they_are_many_and_told_where_they_are_few(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = pa.table({"prompt": ["a question"] * 3, "completion": [""] * 3})
    rows = pa.concat_tables([table(), empty])
    says = rf"^3 of {ROWS + 3} rows are invalid \(more than 5%\): .*e\.g\. row {ROWS} .*; --on-bad-row drop goes on"
    with pytest.raises(InputError, match=says):
        finetune(rows, settings(model), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for given, options in ((rows, {"on_bad_row": "drop"}), (rows.slice(0, ROWS + 2), {})):
        record = finetune(given, settings(model), tmp_path / "run", progress=Progress("lines"), fresh=True, **options)
        assert record["data"]["valid"] == ROWS
        without = record["data"]["rows"] - ROWS
        said = f"{without} of {record['data']['rows']} rows have no completion text: they are not trained on"
        assert said in capsys.readouterr().err


def test_a_long_prompt_does_not_cost_the_answer(model: str, tmp_path: Path) -> None:
    long = pa.table({"prompt": ["word " * 200] * 20, "completion": ["a short answer"] * 20})
    record = finetune(pa.concat_tables([table(), long]), settings(model), tmp_path / "run")
    assert record["data"]["valid"] == ROWS + 20
    assert record["data"]["prompts_cut"] >= 20
    assert record["data"]["completions_cut"] == 0


# -- data -----------------------------------------------------------------------------------------------------------


def test_a_curated_folder_is_read_as_it_was_curated(model: str, tmp_path: Path) -> None:
    data = table()
    loaded = curate.read(data)
    folder = tmp_path / "hard"
    (folder / "data").mkdir(parents=True)
    copies = data.slice(0, 4)
    ids = loaded.examples.ids.to_pylist()
    whole = pa.concat_tables([data, copies]).rename_columns(["in", "out"])
    whole = whole.append_column("example_id", pa.array([*ids, *(f"{each}#1" for each in ids[:4])]))
    whole = whole.append_column("origin", pa.array(["original"] * ROWS + ["duplicate"] * 4))
    pq.write_table(whole, folder / "data" / "train-00000-of-00001.parquet")
    stages = [{"name": "train the proxy", "seconds": 2.0, "tokens": 700, "cached": False}]
    record = {
        "data": {"shape": "prompt_completion", "columns": {"prompt": "in", "completion": "out", "id": "gone"}},
        "proxy": {"parameters": 123, "tokens_trained": 700},
        "cost": {"seconds": 3.5, "stages": stages},
        "synthesis": [{"requests": {"made": 2, "from the store": 1}, "tokens": {"generated": 40}}],
    }
    (folder / "run.json").write_text(record_text(record))
    found = finetune(str(folder), settings(model, steps=1), tmp_path / "run")
    assert found["arm"] == "hard"
    assert found["data"]["origins"] == {"duplicate": 4, "original": ROWS}
    assert found["curation"] == {
        "seconds": 3.5,
        "tokens": 700,
        "proxy_parameters": 123,
        "requests": 3,
        "generated_tokens": 40,
    }
    with pytest.raises(InputError, match="is a fine-tuning run, not data"):
        finetune(str(tmp_path / "run"), settings(model), tmp_path / "other")


def test_the_limit_draws_the_same_rows_for_every_seed(model: str, tmp_path: Path) -> None:
    keys = set()
    for seed in (0, 1):
        run = tmp_path / str(seed)
        record = finetune(table(), settings(model, steps=1, seed=seed), run, limit=20)
        assert record["data"]["rows"] == 20
        keys.add(record["data"]["fingerprint"])
    assert len(keys) == 1


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
    with pytest.raises(InputError, match="choose from tensorboard, wandb"):
        finetune(table(), settings(model), tmp_path / "run", log=("mlflow",))
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


@pytest.mark.parametrize("lora", [None, LoRA()])
def test_arithmetic_is_what_the_matrices_do(lora: LoRA | None) -> None:
    """Against torch's own counter, on one row whose tokens all count. Its attention is not causal: twice the work."""
    model = tiny_model("llama", attn_implementation="eager")
    if lora is not None:
        with_adapter(model, lora, 0)
    model.get_input_embeddings().weight.requires_grad_(True)  # or the first layer's inputs need no gradient
    ids = torch.arange(3, 23)[None]
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    counts = {str(op).split(".")[-1]: count for op, count in counter.get_flop_counts()["Global"].items()}
    found = arithmetic(model)
    assert counts["mm"] + counts.get("addmm", 0) == 20 * (found.per_token + found.per_completion_token)
    # Some versions of transformers multiply positions and rotary frequencies as matrices, 0.05 % of the rest here.
    assert counts["bmm"] == pytest.approx(2 * 400 * found.per_square, rel=1e-3)
    tokens = random_tokens([(4, 6), (1, 3)])
    expected = 14 * found.per_token + 9 * found.per_completion_token + (100 + 16) * found.per_square
    assert found.of(tokens, np.array([0, 1])) == pytest.approx(expected)


@pytest.mark.parametrize(("gradients", "share"), [(1, "25%"), (2, "50%")])
def test_the_line_on_the_terminal_has_loss_rate_share_of_peak_and_time_left(gradients: int, share: str) -> None:
    watch = training._Watch(
        None, TrainConfig(steps=10), operations=1000.0, peak=8000.0, stage=None, gradients=gradients
    )  # type: ignore[arg-type]
    first, second = (StepRecord(k, 1.25, 1e-3, 1.0, gradients, 100 * k, 0.5 * k, 4096) for k in (1, 2))
    watch._recent.append((first.tokens, first.seconds))
    watch._recent.append((second.tokens, second.seconds))
    assert watch._line(second) == f"loss 1.250, 200 tokens/s, {share} of peak, 4.0 s left"


def test_the_peak_is_measured_once_and_draws_nothing() -> None:
    model = tiny_model("llama", hidden_size=64, intermediate_size=128)
    state = torch.get_rng_state()
    found = peak_rate(model, torch.device("cpu"), torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert found is not None
    assert 1e8 < found < 1e14
    assert peak_rate(model, torch.device("cpu"), torch.float32) == found
    assert peak_rate(tiny_model(), torch.device("cpu"), torch.float32) is None  # too small to tell


def test_no_warning_of_other_libraries_comes_through(model: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        finetune(table(), settings(model, steps=1, lora=LoRA()), tmp_path / "run")
    assert [str(each.message) for each in caught] == []
