"""A model that lacks a weight or a vocabulary is refused by name, however it came to lack it; a whole one is loaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from curate.cli.main import main
from curate.errors import DataWarning, InputError
from curate.expo.sources import open_models
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA, merged
from curate.models import identify, load_model, load_tokenizer
from curate.models.model_files import has_initial_weights
from tests.fixtures.models import FAMILIES, saved, tiny_model, write_gguf
from tests.fixtures.tokenizers import byte_level

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def refused(folder: Path | str, *says: str) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(folder))
    text = str(caught.value)
    assert "\n" not in text
    assert all(each in text for each in (str(folder), *says)), text
    return text


def sharded(folder: Path) -> list[Path]:
    model = saved(folder)
    (folder / FILE).unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    return sorted(folder.glob("model-*.safetensors"))


# -- one weight less -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weight_that_is_missing_is_named(family: str, tmp_path: Path) -> None:
    """Every kind of weight of every family; each alone, or all, of which the first is named."""
    saved(tmp_path, family)
    whole = load_file(tmp_path / FILE)
    assert load_model(str(tmp_path))
    names = {name.split(".layers.")[-1].split(".h.")[-1].lstrip("0123456789"): name for name in whole}
    parameters = dict(tiny_model(family).named_parameters(remove_duplicate=False))
    for name in names.values():
        if name in parameters or f"{name.split('.')[0]}.weight" == name:
            save_file({k: v for k, v in whole.items() if k != name}, tmp_path / FILE, {"format": "pt"})
            found = refused(tmp_path, "lacks the weight")
            assert name.rpartition(".")[2] in found
    save_file({}, tmp_path / FILE, {"format": "pt"})
    refused(tmp_path, "lacks the weight", "more")


def _mixture(kind: str, folder: Path) -> Path:
    shape = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 4, "num_experts_per_tok": 2}
    config: Any = {
        "mixtral": lambda: transformers.MixtralConfig(**shape, num_local_experts=3),
        "qwen2": lambda: transformers.Qwen2MoeConfig(**shape, num_experts=3, moe_intermediate_size=24),
        "deepseek": lambda: transformers.DeepseekV3Config(
            **shape, n_routed_experts=4, n_group=1, topk_group=1, first_k_dense_replace=1, moe_intermediate_size=24
        ),
    }[kind]()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("mixtral", "model.layers.0.block_sparse_moe.experts.2.w1.weight"),
        ("qwen2", "model.layers.1.mlp.experts.1.up_proj.weight"),
        ("qwen2", "model.layers.1.mlp.experts.0.down_proj.weight"),
        ("deepseek", "model.layers.1.mlp.gate.e_score_correction_bias"),
    ],
)
def test_also_of_one_expert_and_a_learned_buffer(kind: str, name: str, tmp_path: Path) -> None:
    folder = _mixture(kind, tmp_path / "model")
    assert load_model(str(folder))
    edit(folder / FILE, lambda tensors: tensors.pop(name))
    refused(folder, f"lacks the weight {name}")


def test_a_table_that_the_model_computes_may_be_absent(tmp_path: Path) -> None:
    config = transformers.CTRLConfig(vocab_size=99, n_positions=16, n_embd=16, dff=16, n_layer=1, n_head=2)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    buffers = [name for name, _ in model.named_buffers() if name in load_file(tmp_path / FILE)]
    edit(tmp_path / FILE, lambda tensors: [tensors.pop(name) for name in buffers])
    load_model(str(tmp_path))


def test_tied_weights_need_be_there_once(tmp_path: Path) -> None:
    saved(tmp_path, "llama_tied")
    assert "lm_head.weight" not in load_file(tmp_path / FILE)
    load_model(str(tmp_path))
    edit(
        tmp_path / FILE, lambda tensors: tensors.__setitem__("lm_head.weight", tensors.pop("model.embed_tokens.weight"))
    )
    load_model(str(tmp_path))
    edit(tmp_path / FILE, lambda tensors: tensors.pop("lm_head.weight"))
    refused(tmp_path, "lacks the weight model.embed_tokens.weight")


def test_one_weight_less_in_a_gguf_file(tmp_path: Path) -> None:
    tokenizer = byte_level()
    model, path = tiny_model("llama", vocab_size=len(tokenizer)), tmp_path / "a.gguf"
    write_gguf(path, model, tokenizer, leave_out="model.layers.1.mlp.up_proj.weight")
    refused(path, "lacks the weight model.layers.1.mlp.up_proj.weight")
    write_gguf(path, model, tokenizer)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "cut short")


# -- damaged files ---------------------------------------------------------------------------------------------------


def test_a_file_that_ends_before_its_weights(tmp_path: Path) -> None:
    saved(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-1])
    refused(tmp_path, "lacks the weight ", "cut short")
    (tmp_path / FILE).write_bytes(whole[: 8 + int.from_bytes(whole[:8], "little")])  # the header alone
    refused(tmp_path, "lacks the weight ", "cut short")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\x01", "cut short"),
        (b"\xff" * 40, "no safetensors"),
        (b"<html>not found</html>" * 9, "no safetensors"),
        (b"\x02\0\0\0\0\0\0\0[]", "no safetensors"),
        (b'\x09\0\0\0\0\0\0\0{"a": {}}', "no safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n", "git lfs pull"),
    ],
)
def test_a_file_of_another_kind(content: bytes, says: str, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / FILE).write_bytes(content)
    refused(tmp_path, FILE, says)


def test_no_weights_at_all(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / FILE).rename(tmp_path / "adapter_model.safetensors")
    refused(tmp_path, f"no {FILE}", "adapter_model.safetensors")
    (tmp_path / FILE).mkdir()
    refused(tmp_path, FILE, "a folder")


def test_shards(tmp_path: Path) -> None:
    shard = sharded(tmp_path)[1]
    assert load_model(str(tmp_path))
    listed = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    first = next(name for name, file in listed.items() if file == shard.name)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    refused(tmp_path, "lacks the weight", shard.name, "cut short")
    edit_to = {name: tensor for name, tensor in load_file(_written(shard, whole)).items() if name != first}
    save_file(edit_to, shard, {"format": "pt"})
    refused(tmp_path, f"lacks the weight {first}", shard.name)
    shard.unlink()
    refused(tmp_path, f"lacks the weight {first}", shard.name, "missing")
    with pytest.raises(InputError, match="missing"):
        identify(str(tmp_path))  # long before the weights are loaded


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"weight_map": {"a": "../b.safetensors"}}', '{"weight_map": 3}']
)
def test_an_index_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).write_text(text)
    refused(tmp_path, INDEX, "not readable")


# -- weights of another model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 5), (1,), (32, 33), (64, 16)])
def test_a_weight_of_another_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    saved(tmp_path)
    name = "model.layers.1.self_attn.o_proj.weight"
    edit(tmp_path / FILE, lambda tensors: tensors.__setitem__(name, torch.zeros(shape)))
    refused(tmp_path, name, str(shape), "(32, 32)")


def test_integers_where_nothing_says_how_to_read_them(tmp_path: Path) -> None:
    saved(tmp_path)
    name = "model.layers.1.self_attn.o_proj.weight"
    edit(tmp_path / FILE, lambda tensors: tensors.__setitem__(name, tensors[name].to(torch.int8)))
    refused(tmp_path, name, "I8")


def test_a_configuration_that_asks_for_more_or_for_less(tmp_path: Path) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("layer_types", None)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    refused(tmp_path, "lacks the weight model.layers.2.")
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.warns(DataWarning, match=r"9 of the tensors in its files, such as model\.layers\.1\."):
        load_model(str(tmp_path))


# -- tokenizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_model_without_a_vocabulary(family: str, kept: tuple[str, ...], tmp_path: Path) -> None:
    """Of some families transformers makes a tokenizer of nothing: every text has no token, or none but <unk>."""
    saved(tmp_path, family)
    for path in tmp_path.glob("*token*"):
        if path.name not in kept:
            path.unlink()
    with pytest.raises(InputError, match="has no tokenizer") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_without_its_merges(tmp_path: Path) -> None:
    saved(tmp_path, "gpt2")
    inner = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "vocab.json").write_text(json.dumps(inner["vocab"]))
    with pytest.raises(InputError, match=r"cannot be loaded .*merges"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in inner["merges"]))
    assert len(load_tokenizer(str(tmp_path)))


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "<html>"])
def test_a_file_that_is_not_what_its_name_says(file: str, text: str, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=f"its {file} is not readable") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


# -- whoever names it ------------------------------------------------------------------------------------------------

ROWS = [{"prompt": f"What is {k}?", "completion": f"It is {k}."} for k in range(90)]
COMMANDS = {
    "run": ("run", "DATA", "--out", "OUT", "--proxy", "MODEL"),
    "score": ("score", "DATA", "--out", "OUT.parquet", "--proxy", "MODEL"),
    "finetune": ("finetune", "DATA", "--out", "OUT", "--model", "MODEL"),
    "finetune adapter": ("finetune", "DATA", "--out", "OUT", "--model", "MODEL", "--lora"),
    "evaluate": ("evaluate", "MODEL", "--data", "DATA", "--out", "OUT"),
    "validate": ("validate", "DATA", "--out", "OUT", "--model", "MODEL", "--recipe", "LOSS"),
    "reference": ("score", "DATA", "--out", "OUT.parquet", "--recipe", "RECIPE"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["one weight", "one shard"])
def test_every_command_ends_with_one_line(
    command: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    if how == "one shard":
        sharded(tmp_path / "model")[1].unlink()
    else:
        saved(tmp_path / "model")
        edit(tmp_path / "model" / FILE, lambda tensors: tensors.pop("model.norm.weight"))
    saved(tmp_path / "whole")
    proxy = f"proxy: {{model: {tmp_path / 'whole'}, steps: 5, max_length: 64}}\n"
    (tmp_path / "loss.yaml").write_text(proxy + "scorer: {use: LossTrajectory}\n")
    (tmp_path / "recipe.yaml").write_text(proxy + f"scorer: {{use: Learnability, reference: {tmp_path / 'model'}}}\n")
    names = {
        "RECIPE": tmp_path / "recipe.yaml",
        "LOSS": tmp_path / "loss.yaml",
        "DATA": tmp_path / "data.jsonl",
        "MODEL": tmp_path / "model",
        "OUT": tmp_path / "out",
    }
    words = list(COMMANDS[command])
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    assert main(words) == 2
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if "lacks the weight" in line] or [said]
    assert "model.norm.weight" in line or "is missing" in line
    assert "LOAD REPORT" not in said


@pytest.mark.parametrize("name", ["config.json", FILE, "tokenizer_config.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(name: str, tmp_path: Path) -> None:
    saved(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    os.mkfifo(tmp_path / "model" / name)
    for read in (load_model, load_tokenizer, identify):
        with pytest.raises(InputError, match=f"{re.escape(name)} is not a file"):
            read(str(tmp_path / "model"))


def test_a_tokenizer_whose_settings_fail_at_the_first_use(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": ["long"]}))
    with pytest.raises(InputError, match=r"cannot be loaded \('>' not supported"):
        load_tokenizer(str(tmp_path / "model"))


def test_an_adapter_that_lacks_a_factor(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    settings = Finetuning(model=str(tmp_path / "model"), lora=LoRA(), steps=1, max_length=64)
    finetune(pa.Table.from_pylist(ROWS), settings, tmp_path / "run")
    assert merged(tmp_path / "run")
    file = tmp_path / "run" / "adapter" / "adapter_model.safetensors"
    whole = file.read_bytes()
    names = sorted(load_file(file))
    both = [names[0], names[0].replace("lora_A", "lora_B")]
    for lost in ([names[3]], both, names):  # one factor, both of one module, all
        file.write_bytes(whole)
        edit(file, lambda tensors, lost=lost: [tensors.pop(name) for name in lost])
        for read in (lambda: merged(tmp_path / "run"), lambda: _expo(tmp_path)):
            with pytest.raises(InputError, match=r"lacks the|has no factors"):
                read()
    file.write_bytes(whole)
    edit(file, lambda tensors: tensors.__setitem__(names[2], tensors[names[2]].to(torch.int8)))
    for read in (lambda: merged(tmp_path / "run"), lambda: _expo(tmp_path)):
        with pytest.raises(InputError, match="holds integers"):
            read()
    file.write_bytes(whole[:-1])
    for read in (lambda: merged(tmp_path / "run"), lambda: _expo(tmp_path)):
        with pytest.raises(InputError, match="cut short"):
            read()


def _expo(folder: Path) -> None:
    open_models(folder / "run")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_initial_until_the_first_update(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
    model.save_pretrained(tmp_path / "random")
    assert has_initial_weights(tmp_path / "random")
    scale = next(parameter for name, parameter in model.named_parameters() if name.endswith("norm.weight"))
    scale.data[0] += 0.01
    model.save_pretrained(tmp_path / "trained")
    assert not has_initial_weights(tmp_path / "trained")
    assert not has_initial_weights(tmp_path)  # nothing to tell it by
    (tmp_path / "cut.safetensors").write_bytes(b"x")
    assert not has_initial_weights(tmp_path)
