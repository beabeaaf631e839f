"""LoRA: factors as peft makes them, merged and loaded, for dense models and for every mixture of experts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from peft import PeftModel

from curate import read
from curate.console.progress import Progress
from curate.errors import InputError
from curate.expo.extrapolation import extrapolate
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA, _with_saved_adapter, merged, save_adapter, with_adapter
from curate.models import load_model
from curate.models.batches import make_batch, pack_batch
from curate.models.forward import allow_packing, batch_losses
from curate.models.scoring import LossEngine
from curate.tokenization.encoding import tokenize
from tests.fixtures.finetuning import same, settings, table, weights, write_model
from tests.fixtures.models import FAMILIES, random_tokens, tiny_model
from tests.fixtures.tokenizers import byte_level

SHAPE = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 4, "num_experts_per_tok": 2}


FINE = {"moe_intermediate_size": 24}


GROUPED = {**FINE, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}


LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}


MIXTURES: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen2Moe": {**FINE, "num_experts": 4, "shared_expert_intermediate_size": 24},
    "Qwen3Moe": {**FINE, "num_experts": 4, "head_dim": 8, "mlp_only_layers": [0]},
    "Olmoe": {"num_experts": 4},
    "DeepseekV2": {**GROUPED, **LATENT},
    "DeepseekV3": {**GROUPED, **LATENT},
    "GptOss": {"num_local_experts": 4, "head_dim": 8},
    "GraniteMoe": {"num_local_experts": 4},
    "GraniteMoeShared": {"num_local_experts": 4, "shared_intermediate_size": 16},
    "Phimoe": {"num_local_experts": 4},
    "Glm4Moe": {**GROUPED, "head_dim": 8},
    "Llama4Text": {"num_local_experts": 4, "intermediate_size_mlp": 48, "head_dim": 8, "num_experts_per_tok": 1},
    "JetMoe": {"num_local_experts": 4, "kv_channels": 8},
}


def mixture(name: str) -> Any:
    config = getattr(transformers, f"{name}Config")(**{**SHAPE, **MIXTURES[name]})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def drawn_factors(adapted: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=generator)
    return adapted


IDS = torch.arange(1, 25)[None]


@pytest.mark.parametrize("name", MIXTURES)
def test_every_matrix_but_the_head_and_the_embeddings_changes(name: str, tmp_path: Path) -> None:
    """What has weights (out, in) or (experts, out, in) is adapted, and comes back from disk and merged as it was."""
    before = {key: tensor.clone() for key, tensor in mixture(name).state_dict().items()}
    adapted = drawn_factors(with_adapter(mixture(name), LoRA(rank=4), 0))
    with torch.no_grad():
        logits = adapted(input_ids=IDS).logits
    save_adapter(adapted, tmp_path, "base", None)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_parameters"] == sorted(config["target_parameters"])
    whole = _with_saved_adapter(mixture(name), tmp_path).merge_and_unload(safe_merge=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(whole(input_ids=IDS).logits, logits, atol=1e-4, rtol=1e-4)
    after = whole.state_dict()
    same = {key for key in before if before[key].ndim > 1 and torch.equal(before[key], after[key])}
    odd = ("lm_head", "embed_tokens", "bias", "emb.")
    assert not [key for key in same if not any(part in key for part in odd)]
    assert all(torch.equal(before[key], after[key]) for key in before if any(part in key for part in odd))


@pytest.mark.parametrize("name", ["Qwen2Moe", "GptOss", "DeepseekV3"])
def test_experts_are_trained(name: str) -> None:
    model = mixture(name)
    with_adapter(model, LoRA(rank=4), 0)
    model(input_ids=IDS, labels=IDS).loss.backward()
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in key for key in trained)
    experts = [parameter for key, parameter in trained.items() if ".experts." in key and "lora_B" in key]
    assert experts
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in experts)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_experts_is_adapted_as_before(family: str) -> None:
    adapted = with_adapter(tiny_model(family), LoRA(), 0)
    assert not adapted.peft_config["default"].target_parameters


def test_dropout_that_experts_cannot_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"lora\.dropout = 0\.1: experts .*set lora\.dropout=0"):
        with_adapter(mixture("GptOss"), LoRA(dropout=0.1), 0)
    with_adapter(mixture("GptOss"), LoRA(dropout=0.1, targets=("q_proj",)), 0)


def test_a_run_and_what_it_leaves(tmp_path: Path) -> None:
    """From the training loop to the merged model: its loss is that of the training on the same rows."""
    tokenizer = byte_level()
    config = transformers.Qwen2MoeConfig(**{**SHAPE, **MIXTURES["Qwen2Moe"], "vocab_size": len(tokenizer)})
    base = transformers.AutoModelForCausalLM.from_config(config)
    base.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = pa.table({"prompt": [f"What is {k}?" for k in range(16)], "completion": [f"It is {k}." for k in range(16)]})
    settings = Finetuning(model=str(tmp_path / "model"), lora=LoRA(rank=4), steps=8, batch_size=16, learning_rate=1e-2)
    settings = settings.model_copy(update={"precision": "float32"})  # where the processor has bfloat16 units too
    record = finetune(rows, settings, tmp_path / "run", progress=Progress("none"))["training"]
    assert record["loss_last"] < record["loss_first"]
    tokens = tokenize(read(rows).examples, tokenizer, template="alpaca", max_length=512)
    losses = [
        float(np.average(LossEngine(model).losses(tokens), weights=tokens.completion_tokens))
        for model in (base.eval(), merged(tmp_path / "run"))
    ]
    assert losses[0] == pytest.approx(record["loss_first"], abs=1e-4)
    assert losses[1] < record["loss_last"] + 0.01
    with pytest.raises(InputError, match="the adapter has target_parameters; merge it into its base"):
        extrapolate(tmp_path / "run", 0.3, tmp_path / "expo", progress=Progress("none"))


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
