"""Models that do and do not belong together, and runs that name their base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from curate.errors import DataWarning, InputError
from curate.expo.extrapolation import extrapolate
from curate.expo.sources import open_models
from curate.storage.records import record_text
from tests.fixtures.expo import load, pair, random_tensors, save, write_run
from tests.fixtures.models import tiny_model


def test_mismatched_models_are_refused_with_the_tensor(tmp_path: Path) -> None:
    small, large = tiny_model("llama", num_hidden_layers=1), tiny_model("llama", vocab_size=212)
    for name, model in (("small", small), ("large", large), ("base", tiny_model("llama"))):
        model.save_pretrained(tmp_path / name)
    with pytest.raises(InputError, match=r"base has a tensor 'model\.layers\.1\..*small lacks"):
        extrapolate(tmp_path / "small", 1, tmp_path / "out", base=tmp_path / "base")
    with pytest.raises(InputError, match=r"base has a tensor 'model\.layers\.1\..*small lacks"):
        extrapolate(tmp_path / "base", 1, tmp_path / "out", base=tmp_path / "small")
    with pytest.raises(InputError, match=r"is \[212, 32\] in .*large but \[211, 32\]"):
        extrapolate(tmp_path / "large", 1, tmp_path / "out", base=tmp_path / "base")
    assert not (tmp_path / "out").exists()


def test_types_that_cannot_be_extrapolated_are_refused(tmp_path: Path) -> None:
    base, tuned, _, _ = pair(tmp_path)
    whole = save(tmp_path / "whole", {name: value.int() for name, value in random_tensors(0).items()})
    with pytest.raises(InputError, match="give its floating-point weights"):
        extrapolate(tuned, 1, tmp_path / "out", base=whole)
    eighths = {name: value.to(torch.float8_e4m3fn) for name, value in random_tensors(0).items()}
    with pytest.raises(InputError, match="16 bits or more"):
        extrapolate(save(tmp_path / "eighths", eighths), 1, tmp_path / "out", base=base)
    packed = save(tmp_path / "packed", random_tensors(0), quantization_config={"bits": 4})
    with pytest.raises(InputError, match="quantized"):
        extrapolate(packed, 1, tmp_path / "out", base=base)


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_a_tuned_model_that_lacks_a_weight_of_the_base_is_refused(family: str, tmp_path: Path) -> None:
    """Also where files know it by another name than the class: the head of gpt_neox."""
    for name in ("base", "tuned"):
        tiny_model(family).save_pretrained(tmp_path / name)
    path = tmp_path / "tuned" / "model.safetensors"
    whole = load_file(path)
    for lost in whole:
        save_file({k: v for k, v in whole.items() if k != lost}, path, {"format": "pt"})
        with pytest.raises(InputError, match=lost.replace(".", r"\.")):
            open_models(tmp_path / "tuned", tmp_path / "base")


def test_a_tied_base_lends_its_embeddings_to_an_untied_head(tmp_path: Path) -> None:
    base, tuned = tiny_model("llama_tied"), tiny_model("llama", 1)
    base.save_pretrained(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "tuned")
    extrapolate(tmp_path / "tuned", 1, tmp_path / "out", base=tmp_path / "base")
    head = load(tmp_path / "out")["lm_head.weight"]
    torch.testing.assert_close(head, 2 * tuned.lm_head.weight - base.model.embed_tokens.weight)
    with pytest.raises(InputError, match=r"'lm_head\.weight'"):
        extrapolate(tmp_path / "base", 1, tmp_path / "no", base=tmp_path / "tuned")


def test_old_files_of_a_base_may_hold_buffers_tied_heads_and_shorter_names(tmp_path: Path) -> None:
    base, tuned = tiny_model("gpt2"), tiny_model("gpt2", 1)
    tuned.save_pretrained(tmp_path / "tuned")
    old = {name.removeprefix("transformer."): value for name, value in base.transformer.state_dict().items()}
    old |= {"h.0.attn.bias": torch.ones(4, 4), "lm_head.weight": old["wte.weight"].clone()}
    save(tmp_path / "base", old)
    base.config.save_pretrained(tmp_path / "base")
    extrapolate(tmp_path / "tuned", 1, tmp_path / "out", base=tmp_path / "base")
    found = load(tmp_path / "out")
    assert set(found) == set(load(tmp_path / "tuned"))
    for name, value in found.items():
        torch.testing.assert_close(value, 2 * tuned.state_dict()[name] - base.state_dict()[name])


def test_a_run_names_its_base(tmp_path: Path) -> None:
    base, tuned, first, second = pair(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    tuned.rename(run / "model")
    extrapolate(write_run(run, base), 1, tmp_path / "out")
    torch.testing.assert_close(load(tmp_path / "out")["a.weight"], 2 * second["a.weight"] - first["a.weight"])
    earlier = tmp_path / "earlier"
    shutil.copytree(base, earlier)
    extrapolate(run, 1, tmp_path / "same", base=earlier)  # the same files in another place
    save_file(random_tensors(5), earlier / "model.safetensors")
    with pytest.warns(DataWarning, match=r"earlier is not the model that .* was tuned from: .*; leave the base out"):
        extrapolate(run, 1, tmp_path / "further", base=earlier)
    save_file(random_tensors(5), base / "model.safetensors")
    with pytest.raises(InputError, match=r"is not the model that .* was tuned from"):
        extrapolate(run, 1, tmp_path / "other")
    record = json.loads((run / "run.json").read_text())
    record["settings"]["model"] = "scratch"
    (run / "run.json").write_text(record_text(record))
    with pytest.raises(InputError, match="trained from scratch"):
        extrapolate(run, 1, tmp_path / "other")
