"""A model is put back as it was lent; proxies know no dropout, fine-tuning keeps it and says what depends on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from safetensors.torch import load_file

import curate.training.step
from curate import Proxy, read
from curate.console.progress import Progress
from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA, with_adapter
from curate.finetuning.run_folder import read_run
from curate.models.modes import preserve_state, read_only_eval, state_tensors, uses_randomness
from curate.optimizers import AdamW
from curate.proxy.training import ProxyTraining
from curate.run import Run
from curate.training.config import TrainConfig
from curate.training.loop import train
from tests.fixtures.models import FAMILIES, random_tokens, tiny_model
from tests.fixtures.tokenizers import byte_level

TOKENS = random_tokens(np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist(), invalid=[3, 17])


# -- models that drop out --------------------------------------------------------------------------------------------


def _built(config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config).float().eval()


def _gpt2(**changes: float) -> Any:
    return _built(transformers.GPT2Config(**{**FAMILIES["gpt2"][1], **changes}))


def _opt(**changes: float) -> Any:
    shape = {"vocab_size": 211, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    quiet = {"dropout": 0.0, "attention_dropout": 0.0, "word_embed_proj_dim": 32, "max_position_embeddings": 512}
    return _built(transformers.OPTConfig(**{**shape, **quiet, **changes}))


def _mixture() -> Any:
    shape = {"vocab_size": 211, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 4, "num_local_experts": 4}
    return _built(transformers.MixtralConfig(**shape, router_jitter_noise=0.2))


def _attention(value: float) -> Any:
    model = tiny_model("llama_tied")
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = value
    return model


def _own_code(draw: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]) -> Any:
    """A model whose repository's code draws in a way of its own."""
    model = tiny_model("llama_tied")
    model.model.layers[0].mlp.register_forward_hook(lambda module, _, output: draw(module, output))
    return model


def _module(part: torch.nn.Module) -> Any:
    model = tiny_model("llama_tied")
    model.model.layers[1].mlp = torch.nn.Sequential(model.model.layers[1].mlp, part)
    return model


DROPPING: dict[str, Callable[[], Any]] = {
    "gpt2 as it is configured": _gpt2,
    "residual": lambda: _gpt2(resid_pdrop=0.4, embd_pdrop=0.0, attn_pdrop=0.0),
    "embedding": lambda: _gpt2(resid_pdrop=0.0, embd_pdrop=0.4, attn_pdrop=0.0),
    "attention": lambda: _gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.4),
    "attention of a module": lambda: _attention(0.4),
    "functions": lambda: _opt(dropout=0.3),
    "layers left out": lambda: _opt(layerdrop=0.5),
    "jitter in a router": _mixture,
    "a module": lambda: _module(torch.nn.Dropout(0.3)),
    "a module of another kind": lambda: _module(torch.nn.AlphaDropout(0.3)),
    "a function": lambda: _own_code(lambda part, x: torch.nn.functional.dropout(x, 0.3, part.training)),
    "a draw of Python": lambda: _own_code(lambda part, x: x * 2 * (random.random() < 0.5) if part.training else x),
    "a draw of NumPy": lambda: _own_code(
        lambda part, x: x * 2 * float(np.random.rand() < 0.5) if part.training else x  # noqa: NPY002
    ),
}


@pytest.mark.parametrize("kind", DROPPING)
def test_a_model_that_draws_at_random_is_known(kind: str) -> None:
    model = DROPPING[kind]()
    random.seed(1)
    before = (random.getstate(), torch.get_rng_state().tolist(), [part.training for part in model.modules()])
    assert uses_randomness(model)
    assert (random.getstate(), torch.get_rng_state().tolist(), [part.training for part in model.modules()]) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_one_that_does_not_is_known_too(family: str) -> None:
    assert not uses_randomness(tiny_model(family))


def test_of_an_adapter_too() -> None:
    adapted = tiny_model("llama_tied")
    with_adapter(adapted, LoRA(), 0)
    assert not uses_randomness(adapted)
    dropping = tiny_model("llama_tied")
    with_adapter(dropping, LoRA(dropout=0.1), 0)
    assert uses_randomness(dropping)


# -- nothing drops out of a proxy ------------------------------------------------------------------------------------


def trained(model: Any, fail: bool = False, **changes: Any) -> tuple[list[float], torch.Tensor]:
    """Losses and weights; fail: memory runs out in the second forward pass."""
    chosen: dict[str, Any] = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32"}
    chosen |= {"optimizer": AdamW(eps=1e-3), "dropout": False, "warmup_ratio": 0.0}
    calls = []

    def after(*_: Any) -> None:
        calls.append(torch.is_grad_enabled())
        if fail and sum(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.get_input_embeddings().register_forward_hook(after)
    *_, last = train(model, TOKENS, TrainConfig(**{**chosen, **changes}), checkpoint_steps=[4])
    handle.remove()
    assert last.lowered == fail
    return last.losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def apart(one: torch.Tensor, other: torch.Tensor, start: torch.Tensor) -> float:
    return float((one - other).norm() / (one - start).norm())


@pytest.mark.parametrize("kind", DROPPING)
def test_neither_micro_batches_nor_memory_change_what_is_trained_without_dropout(kind: str) -> None:
    start = torch.cat([p.detach().flatten() for p in DROPPING[kind]().parameters()])
    losses, weights = trained(DROPPING[kind]())
    for changes in ({"micro_batch_tokens": 60}, {"micro_batch_tokens": 150, "fail": True}):
        found, others = trained(DROPPING[kind](), **changes)
        np.testing.assert_allclose(found, losses, rtol=1e-5)
        assert apart(weights, others, start) < 1e-3
    random.seed(3)
    torch.manual_seed(3)
    assert torch.equal(trained(DROPPING[kind]())[1], weights)


@pytest.mark.parametrize("kind", ["gpt2 as it is configured", "functions", "a function"])
def test_with_dropout_they_do(kind: str) -> None:
    start = torch.cat([p.detach().flatten() for p in DROPPING[kind]().parameters()])
    _, weights = trained(DROPPING[kind](), dropout=True)
    _, others = trained(DROPPING[kind](), dropout=True, micro_batch_tokens=60)
    assert apart(weights, others, start) > 0.01


ROWS = pa.Table.from_pylist([{"prompt": f"What is {k}?", "completion": f"{k} is {k * k}."} for k in range(40)])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, tokenizer = tmp_path_factory.mktemp("gpt2"), byte_level()
    model = _built(transformers.GPT2Config(**{**FAMILIES["gpt2"][1], "vocab_size": len(tokenizer)}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert model.config.resid_pdrop == 0.1
    return str(folder)


def test_a_proxy_is_the_same_in_micro_batches_of_any_size(
    gpt2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(model=gpt2, steps=5, checkpoints=1, learning_rate=1e-2, precision="float32", warmup_ratio=0)
    found = []
    for size in (4096, 90):
        monkeypatch.setattr(curate.training.step, "_MICRO_BATCH_TOKENS_CPU", size)
        run = ProxyTraining(
            read(ROWS).examples, proxy, Run(cache=tmp_path / str(size), progress=Progress("none")).context
        )
        run.train()
        found.append(load_file(run.checkpoint(5) / "model.safetensors"))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=2e-4, rtol=0)


# -- fine-tuning keeps it and says so --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "drops"),
    [({}, True), ({"lora": LoRA(dropout=0.2)}, True), ({"model": "scratch"}, False)],
)
def test_fine_tuning_says_once_what_depends_on_the_size(
    changes: dict[str, Any], drops: bool, gpt2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Finetuning(**{"model": gpt2, "steps": 3, "max_length": 64, "batch_size": 8, **changes})
    finetune(ROWS, settings, tmp_path / "run", progress=Progress("lines"))
    said = capsys.readouterr().err
    assert said.count("drops out at random in training") == drops
    record = read_run(tmp_path / "run")["training"]
    assert (record["drops_out"], record["micro_batch_lowered"]) == (drops, False)


def test_running_out_of_memory_says_that_the_result_is_of_neither_size(
    gpt2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = curate.training.step.batch_losses

    def limited(model: Any, batch: Any) -> torch.Tensor:
        if batch.input_ids.numel() > 200:
            raise torch.OutOfMemoryError("out of memory")
        return real(model, batch)

    monkeypatch.setattr(curate.training.step, "batch_losses", limited)
    settings = Finetuning(model=gpt2, steps=2, max_length=64, batch_size=8)
    record = finetune(ROWS, settings, tmp_path / "run", progress=Progress("lines"))["training"]
    assert "the result is that of neither" in capsys.readouterr().err
    assert (record["drops_out"], record["micro_batch_lowered"]) == (True, True)


# -- a model lent and put back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_modes_gradients_and_random_states_are_put_back(fails: bool) -> None:
    model = tiny_model().train()
    model.model.layers[0].eval()
    model.lm_head.weight.requires_grad_(False)
    modes = [part.training for part in model.modules()]

    def draws() -> list[Any]:
        return [random.random(), np.random.rand(), torch.rand(2).tolist()]  # noqa: NPY002 - what a model may use

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = draws()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError) if fails else nullcontext(), preserve_state(model):
        model.eval()
        model.requires_grad_(True)
        draws()
        if fails:
            _ = 1 / 0
    assert [part.training for part in model.modules()] == modes
    assert not model.lm_head.weight.requires_grad
    assert draws() == expected


def test_weights_that_change_while_a_model_is_lent_are_noticed() -> None:
    model = tiny_model()
    weight = model.model.norm.weight
    with read_only_eval(model, 3):
        before = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(3)
            weight.copy_(before)
        model(input_ids=torch.arange(4)[None]).logits.sum().backward()
    assert weight.grad is None
    with pytest.raises(InputError, match="weights changed while the checkpoint of step 3"), read_only_eval(model, 3):
        weight.data[0] = weight.data[0].nextafter(torch.tensor(2.0))  # by one bit


def test_what_two_names_share_is_one_tensor() -> None:
    tied, untied = state_tensors(tiny_model("llama_tied")), state_tensors(tiny_model("llama"))
    assert set(untied) - set(tied) == {"lm_head.weight"}
    assert not any(tensor.requires_grad for tensor in tied.values())
