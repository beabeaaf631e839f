"""Tensors on disk: slices, the files of a model, and adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from curate.errors import InputError
from curate.expo import weights
from curate.expo.extrapolation import extrapolate
from tests.fixtures.expo import load, pair, random_tensors, save, write_run
from tests.fixtures.models import tiny_model


@pytest.mark.parametrize("elements", [1, 7, 1000])
def test_slices_change_nothing(tmp_path: Path, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned, _, _ = pair(tmp_path)
    extrapolate(tuned, 0.3, tmp_path / "whole", base=base)
    monkeypatch.setattr(weights, "_SLICE_ELEMENTS", elements)
    extrapolate(tuned, 0.3, tmp_path / "sliced", base=base)
    assert (tmp_path / "sliced/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_the_file_that_is_read_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    """Where one file of all weights lies beside an index of others, as after a model was saved in one folder twice."""
    base, tuned, *_ = pair(tmp_path)
    split = save(tmp_path / "split", random_tensors(2), files=2)
    for path in [*split.glob("model-*"), split / weights.INDEX]:
        shutil.copy(path, tuned)
    record = extrapolate(tuned, 0.0, tmp_path / "out", base=base)
    assert record
    assert all(torch.equal(load(tmp_path / "out")[k], v) for k, v in load_file(tuned / "model.safetensors").items())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft, about transformers
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_of_a_lora_run_the_change_of_the_adapter_is_scaled(tmp_path: Path, family: str) -> None:
    from curate.finetuning.lora import LoRA, save_adapter, with_adapter

    model = tiny_model(family)
    model.save_pretrained(tmp_path / "base")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = with_adapter(model, LoRA(rank=3, alpha=12), seed=0)
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    save_adapter(adapted, run / "adapter", str(tmp_path / "base"), None)
    (run / "adapter/tokenizer.json").write_text("{}")
    record = extrapolate(write_run(run, tmp_path / "base"), 0.5, tmp_path / "out")
    merged = adapted.merge_and_unload().state_dict()
    found = load(tmp_path / "out")
    changed = 0
    for name, value in found.items():
        torch.testing.assert_close(value, 1.5 * merged[name] - 0.5 * before[name], rtol=1e-5, atol=1e-6)
        changed += not torch.equal(value, before[name])
    assert changed == sum("lora_B" in name for name in load_file(run / "adapter/adapter_model.safetensors"))
    assert record["tuned"]["identity"].startswith("lora:")
    assert (tmp_path / "out/tokenizer.json").is_file()
    assert not (tmp_path / "out/adapter_config.json").exists()
    alone = extrapolate(run / "adapter", 0.5, tmp_path / "alone")
    assert alone["inputs"] == record["inputs"]
    config = json.loads((run / "adapter/adapter_config.json").read_text())
    (run / "adapter/adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(InputError, match="merge it into its base"):
        extrapolate(run, 0.5, tmp_path / "dora")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft, about transformers
def test_the_change_of_an_adapter_is_not_rounded_to_its_base(tmp_path: Path) -> None:
    from curate.finetuning.lora import LoRA, save_adapter, with_adapter

    model = tiny_model("llama").bfloat16()
    model.save_pretrained(tmp_path / "base")
    before = {name: value.double() for name, value in model.state_dict().items()}
    adapted = with_adapter(model.float(), LoRA(rank=3), seed=0)
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=1e-4)
    (tmp_path / "adapter").mkdir()
    save_adapter(adapted, tmp_path / "adapter", str(tmp_path / "base"), None)
    merged = adapted.merge_and_unload().state_dict()
    record = extrapolate(tmp_path / "adapter", 0.5, tmp_path / "out")
    assert record["dtype"] == json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "float32"
    for name, value in load(tmp_path / "out").items():
        assert value.dtype == torch.float32
        change = 1.5 * (merged[name].double() - before[name])
        torch.testing.assert_close(value.double() - before[name], change, rtol=1e-3, atol=1e-7)
    extrapolate(tmp_path / "adapter", 0.5, tmp_path / "narrow", dtype="bfloat16")
    assert all(value.dtype == torch.bfloat16 for value in load(tmp_path / "narrow").values())
