"""The weights that a run leaves, and where the model that it leaves stops."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import transformers
from torch.distributed.fsdp import fully_shard

import curate
import curate.training.step
from curate.finetuning.finetune import finetune
from curate.finetuning.lora import LoRA
from curate.finetuning.saving import save_model
from curate.models import load_model
from curate.tokenization.encoding import tokenize
from curate.training.fsdp import unsharded
from tests.fixtures.finetuning import settings, table, weights, write_model
from tests.fixtures.tokenizers import CHATML, byte_level


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


@pytest.mark.parametrize("family", ["llama", "llama_tied"])
def test_embeddings_beyond_the_vocabulary_do_no_harm(family: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = write_model(tmp_path / "model", tokenizer, family, vocab_size=len(tokenizer) + 37)
    finetune(table(), settings(folder, steps=1), tmp_path / "run")
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tied = trained.get_output_embeddings().weight is trained.get_input_embeddings().weight
    assert tied == (family == "llama_tied")
    assert trained.get_input_embeddings().weight.shape[0] == len(tokenizer) + 37


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
        with unsharded(own, keep=True):
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
