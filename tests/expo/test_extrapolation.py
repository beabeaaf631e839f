"""Extrapolation: its formula, what it leaves bit for bit, which models it refuses, and the sweep over alpha."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from curate.cli.main import main
from curate.errors import DataWarning, InputError
from curate.expo import extrapolate, sweep, weights
from curate.expo.sources import open_models
from curate.expo.sweep import _best
from curate.storage.records import read_record, record_text
from tests.fixtures.models import tiny_model

Tensors = dict[str, torch.Tensor]


def _save(folder: Path, tensors: Tensors, *, files: int = 1, **config: Any) -> Path:
    """A model folder of these tensors; what their model is matters to nobody as long as both have the same names."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    names = list(tensors)
    if files == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    where = {name: f"model-{1 + k % files:05d}-of-{files:05d}.safetensors" for k, name in enumerate(names)}
    for file in sorted(set(where.values())):
        save_file({name: tensors[name] for name in names if where[name] == file}, folder / file, {"format": "pt"})
    (folder / weights.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def _load(folder: Path) -> Tensors:
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def _random(seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (7, 5), "a.bias": (7,), "scalar": (), "empty": (0, 3), "b.running_mean": (6,)}
    made = {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: value.to(dtype) for name, value in made.items()}


def _pair(
    tmp_path: Path, dtype: torch.dtype = torch.float32, change: float = 0.1
) -> tuple[Path, Path, Tensors, Tensors]:
    base = _random(0, dtype)
    step = _random(1, torch.float32, change)
    tuned = {name: (base[name].float() + step[name]).to(dtype) for name in base}
    return _save(tmp_path / "base", base), _save(tmp_path / "tuned", tuned), base, tuned


def _bits(value: torch.Tensor) -> bytes:
    return bytes(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)


# -- the formula ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.3, 8.0])
def test_every_floating_tensor_follows_the_formula(tmp_path: Path, alpha: float) -> None:
    base, tuned, first, second = _pair(tmp_path)
    record = extrapolate(tuned, alpha, tmp_path / "out", base=base)
    found = _load(tmp_path / "out")
    assert set(found) == set(second)
    for name, value in found.items():
        exact = second[name].double() + alpha * (second[name].double() - first[name].double())
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    assert record["tensors"] == {"extrapolated": 5, "copied": 0}
    change = torch.cat([(second[name] - first[name]).reshape(-1) for name in first])
    assert record["norm_change"] == pytest.approx(float(change.norm()), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_alpha_zero_is_the_tuned_model_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    base, _, _, tuned = _pair(tmp_path, dtype)
    tuned["a.weight"][0, 0] = -0.0
    extrapolate(_save(tmp_path / "signed", tuned), 0, tmp_path / "out", base=base)
    found = _load(tmp_path / "out")
    assert {name: _bits(value) for name, value in found.items()} == {name: _bits(v) for name, v in tuned.items()}
    assert all(found[name].dtype == dtype for name in tuned)


def test_alpha_minus_one_is_the_base_bit_for_bit(tmp_path: Path) -> None:
    base, tuned, first, _ = _pair(tmp_path, change=1e3)
    extrapolate(tuned, -1, tmp_path / "out", base=base)
    assert {name: _bits(value) for name, value in _load(tmp_path / "out").items()} == {
        name: _bits(value) for name, value in first.items()
    }


def test_what_training_left_alone_stays_bit_for_bit(tmp_path: Path) -> None:
    mask = torch.tensor([0.0, -0.0, float("-inf"), 3e38, 1e-45])
    base = _save(tmp_path / "base", {"mask": mask, "w": torch.zeros(2)})
    tuned = _save(tmp_path / "tuned", {"mask": mask.clone(), "w": torch.ones(2)})
    extrapolate(tuned, 0.7, tmp_path / "out", base=base)
    assert _bits(_load(tmp_path / "out")["mask"]) == _bits(mask)


def test_alphas_add_up(tmp_path: Path) -> None:
    base, tuned, first, second = _pair(tmp_path)
    for name, alpha in (("one", 0.3), ("both", 0.8)):
        extrapolate(tuned, alpha, tmp_path / name, base=base)
    again = 1.8 / 1.3 - 1  # (1 + 0.3) (1 + again) = 1 + 0.8
    extrapolate(tmp_path / "one", again, tmp_path / "twice", base=base)
    one, both, twice = (_load(tmp_path / name) for name in ("one", "both", "twice"))
    for name in first:
        torch.testing.assert_close(one[name] + 0.5 * (second[name] - first[name]), both[name], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(twice[name], both[name], rtol=1e-6, atol=1e-6)


def test_small_changes_are_not_lost_in_bfloat16(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(400, 50, generator=generator)
    second = first * (1 + 1e-3 * torch.randn(400, 50, generator=generator))
    exact = second.double() + 0.5 * (second.double() - first.double())
    base, tuned = _save(tmp_path / "base", {"w": first}), _save(tmp_path / "tuned", {"w": second})
    extrapolate(tuned, 0.5, tmp_path / "wide", base=base)
    extrapolate(tuned, 0.5, tmp_path / "out", base=base, dtype="bfloat16")
    torch.testing.assert_close(_load(tmp_path / "wide")["w"].double(), exact, rtol=3e-7, atol=0)
    found = _load(tmp_path / "out")["w"]
    assert found.dtype == torch.bfloat16
    assert (found != exact.bfloat16()).float().mean() < 1e-3
    early = second.bfloat16() + 0.5 * (second.bfloat16() - first.bfloat16())
    assert (early != exact.bfloat16()).float().mean() > 0.1
    assert json.loads((tmp_path / "out/config.json").read_text()) == {"dtype": "bfloat16"}


def test_integer_buffers_are_those_of_the_tuned_model(tmp_path: Path) -> None:
    own = {"steps": torch.tensor(7), "mask": torch.tensor([True, False, True]), "w": torch.ones(3)}
    base = _save(tmp_path / "base", {"steps": torch.tensor(2), "mask": torch.ones(3).bool(), "w": torch.zeros(3)})
    record = extrapolate(_save(tmp_path / "tuned", own), 1, tmp_path / "out", base=base)
    found = _load(tmp_path / "out")
    assert found["steps"] == 7
    assert found["mask"].tolist() == [True, False, True]
    assert found["w"].tolist() == [2, 2, 2]
    assert record["tensors"] == {"extrapolated": 1, "copied": 2}


@pytest.mark.parametrize("elements", [1, 7, 1000])
def test_slices_change_nothing(tmp_path: Path, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned, _, _ = _pair(tmp_path)
    extrapolate(tuned, 0.3, tmp_path / "whole", base=base)
    monkeypatch.setattr(weights, "_SLICE_ELEMENTS", elements)
    extrapolate(tuned, 0.3, tmp_path / "sliced", base=base)
    assert (tmp_path / "sliced/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_result_is_a_model_folder_in_the_layout_of_the_tuned_one(tmp_path: Path) -> None:
    first, second = (tiny_model("llama", seed) for seed in (0, 1))
    base = _save(tmp_path / "base", dict(first.state_dict()), files=3)
    second.save_pretrained(tmp_path / "tuned", max_shard_size="20KB")
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "README.md", "training_args.bin"):
        (tmp_path / "tuned" / name).write_text(name)
    extrapolate(tmp_path / "tuned", 0.5, tmp_path / "out", base=base)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == ({path.name for path in (tmp_path / "tuned").iterdir()} | {"expo.json"}) - {
        *("README.md", "training_args.bin")
    }
    assert sum(name.endswith(".safetensors") for name in names) > 1
    index, own = (json.loads((tmp_path / each / weights.INDEX).read_text()) for each in ("out", "tuned"))
    assert index["weight_map"] == own["weight_map"]
    assert index["metadata"]["total_size"] == own["metadata"]["total_size"]
    model = type(first).from_pretrained(tmp_path / "out")
    for (name, value), one, two in zip(model.named_parameters(), first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(value, 1.5 * two - 0.5 * one, msg=name)


def test_a_finished_result_is_not_done_again_and_no_other_is_overwritten(tmp_path: Path) -> None:
    base, tuned, _, _ = _pair(tmp_path)
    out = tmp_path / "out"
    first = extrapolate(tuned, 0.3, out, base=base)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert extrapolate(tuned, 0.3, out, base=base) == first
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="pass --fresh"):
        extrapolate(tuned, 0.4, out, base=base)
    assert extrapolate(tuned, 0.4, out, base=base, fresh=True)["alpha"] == 0.4
    for place in (tuned, base):
        with pytest.raises(InputError, match="holds something else"):
            extrapolate(tuned, 0.4, place, base=base, fresh=True)
    with pytest.raises(InputError, match="holds something else"):
        extrapolate(out, 0.4, out, base=base, fresh=True)


# -- models that do and do not belong together ------------------------------------------------------------------------


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
    base, tuned, _, _ = _pair(tmp_path)
    whole = _save(tmp_path / "whole", {name: value.int() for name, value in _random(0).items()})
    with pytest.raises(InputError, match="give its floating-point weights"):
        extrapolate(tuned, 1, tmp_path / "out", base=whole)
    eighths = {name: value.to(torch.float8_e4m3fn) for name, value in _random(0).items()}
    with pytest.raises(InputError, match="16 bits or more"):
        extrapolate(_save(tmp_path / "eighths", eighths), 1, tmp_path / "out", base=base)
    packed = _save(tmp_path / "packed", _random(0), quantization_config={"bits": 4})
    with pytest.raises(InputError, match="quantized"):
        extrapolate(packed, 1, tmp_path / "out", base=base)


def test_numbers_that_overflow_or_are_broken_are_refused_with_the_tensor(tmp_path: Path) -> None:
    base = _save(tmp_path / "base", {"w": torch.zeros(3).half()})
    tuned = _save(tmp_path / "tuned", {"w": torch.tensor([1.0, 2.0, 6e4]).half()})
    with pytest.raises(InputError, match=r"'w' of .*tuned at alpha = 0\.3 is not finite in float16; lower alpha"):
        extrapolate(tuned, 0.3, tmp_path / "out", base=base)
    assert not (tmp_path / "out").exists()
    extrapolate(tuned, 0.3, tmp_path / "wide", base=base, dtype="float32")
    broken = _save(tmp_path / "broken", {"w": torch.tensor([1.0, float("nan"), 0.0]).half()})
    with pytest.raises(InputError, match="not finite in the models themselves"):
        extrapolate(broken, 0.3, tmp_path / "out", base=base)


def test_the_file_that_is_read_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    """Where one file of all weights lies beside an index of others, as after a model was saved in one folder twice."""
    base, tuned, *_ = _pair(tmp_path)
    split = _save(tmp_path / "split", _random(2), files=2)
    for path in [*split.glob("model-*"), split / weights.INDEX]:
        shutil.copy(path, tuned)
    record = extrapolate(tuned, 0.0, tmp_path / "out", base=base)
    assert record
    assert all(torch.equal(_load(tmp_path / "out")[k], v) for k, v in load_file(tuned / "model.safetensors").items())


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
    head = _load(tmp_path / "out")["lm_head.weight"]
    torch.testing.assert_close(head, 2 * tuned.lm_head.weight - base.model.embed_tokens.weight)
    with pytest.raises(InputError, match=r"'lm_head\.weight'"):
        extrapolate(tmp_path / "base", 1, tmp_path / "no", base=tmp_path / "tuned")


def test_old_files_of_a_base_may_hold_buffers_tied_heads_and_shorter_names(tmp_path: Path) -> None:
    base, tuned = tiny_model("gpt2"), tiny_model("gpt2", 1)
    tuned.save_pretrained(tmp_path / "tuned")
    old = {name.removeprefix("transformer."): value for name, value in base.transformer.state_dict().items()}
    old |= {"h.0.attn.bias": torch.ones(4, 4), "lm_head.weight": old["wte.weight"].clone()}
    _save(tmp_path / "base", old)
    base.config.save_pretrained(tmp_path / "base")
    extrapolate(tmp_path / "tuned", 1, tmp_path / "out", base=tmp_path / "base")
    found = _load(tmp_path / "out")
    assert set(found) == set(_load(tmp_path / "tuned"))
    for name, value in found.items():
        torch.testing.assert_close(value, 2 * tuned.state_dict()[name] - base.state_dict()[name])


# -- runs and adapters ------------------------------------------------------------------------------------------------


def _run(folder: Path, base: Path, **facts: Any) -> Path:
    """run.json as `curate finetune` leaves it, as far as it is read here."""
    from curate.models.loading import identify

    settings = {"model": str(base), "revision": None}
    record = {"kind": "finetune", "settings": settings, "template": "alpaca", **facts}
    record.setdefault("model", {"name": str(base), "identity": identify(str(base))})
    (folder / "run.json").write_text(record_text(record))
    return folder


def test_a_run_names_its_base(tmp_path: Path) -> None:
    base, tuned, first, second = _pair(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    tuned.rename(run / "model")
    extrapolate(_run(run, base), 1, tmp_path / "out")
    torch.testing.assert_close(_load(tmp_path / "out")["a.weight"], 2 * second["a.weight"] - first["a.weight"])
    earlier = tmp_path / "earlier"
    shutil.copytree(base, earlier)
    extrapolate(run, 1, tmp_path / "same", base=earlier)  # the same files in another place
    save_file(_random(5), earlier / "model.safetensors")
    with pytest.warns(DataWarning, match=r"earlier is not the model that .* was tuned from: .*; leave the base out"):
        extrapolate(run, 1, tmp_path / "further", base=earlier)
    save_file(_random(5), base / "model.safetensors")
    with pytest.raises(InputError, match=r"is not the model that .* was tuned from"):
        extrapolate(run, 1, tmp_path / "other")
    record = json.loads((run / "run.json").read_text())
    record["settings"]["model"] = "scratch"
    (run / "run.json").write_text(record_text(record))
    with pytest.raises(InputError, match="trained from scratch"):
        extrapolate(run, 1, tmp_path / "other")


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
    record = extrapolate(_run(run, tmp_path / "base"), 0.5, tmp_path / "out")
    merged = adapted.merge_and_unload().state_dict()
    found = _load(tmp_path / "out")
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
    for name, value in _load(tmp_path / "out").items():
        assert value.dtype == torch.float32
        change = 1.5 * (merged[name].double() - before[name])
        torch.testing.assert_close(value.double() - before[name], change, rtol=1e-3, atol=1e-7)
    extrapolate(tmp_path / "adapter", 0.5, tmp_path / "narrow", dtype="bfloat16")
    assert all(value.dtype == torch.bfloat16 for value in _load(tmp_path / "narrow").values())


# -- the command and the sweep ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base and a tuned model with a tokenizer, and rows to evaluate on."""
    from curate.data.readers import read
    from curate.models.scratch import scratch_model, scratch_tokenizer

    place = tmp_path_factory.mktemp("trained")
    rows = [{"prompt": f"{k} plus {k + 1}?", "completion": f"It is {2 * k + 1}.\n#### {2 * k + 1}"} for k in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), place / "rows.parquet")
    tokenizer = scratch_tokenizer(read(place / "rows.parquet").examples, 0)
    base, tuned = scratch_model(tokenizer, 64, 0), scratch_model(tokenizer, 64, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in tuned.parameters():
            value += 0.01 * torch.randn(value.shape, generator=generator)
    for name, model in (("base", base), ("tuned", tuned)):
        model.save_pretrained(place / name)
        tokenizer.save_pretrained(place / name)
    return place / "base", place / "tuned", place / "rows.parquet"


def test_the_command_writes_one_model(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned, _ = trained
    given = ["expo", str(tuned), "--base", str(base), "--alpha", "0.3", "--out", str(tmp_path / "out"), "--json"]
    assert main(given) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["alpha"] == 0.3
    assert shown == {"directory": str(tmp_path / "out"), **read_record(tmp_path / "out/expo.json", "")}
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (tuned / "tokenizer.json").read_bytes()
    assert main(["expo", str(tuned), "--base", str(base), "--alpha=-0.5,1", "--out", str(tmp_path / "two")]) == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"alpha--0.5", "alpha-1", "sweep.json"}
    assert "alpha-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--alpha", "0.3"], "name that model with --base"),
        (["--alpha", "much", "--base", "BASE"], "--alpha much: give numbers"),
        (["--alpha=-1.5", "--base", "BASE"], "from -1 (the base)"),
        (["--alpha", "nan", "--base", "BASE"], "from -1 (the base)"),
        (["--alpha", "0.3,0.30000001", "--base", "BASE"], "give fewer digits"),
        (["--alpha", "0.3", "--base", "BASE", "--by", "nll"], "--evaluation DATA"),
        (["--alpha", "0.3", "--base", "/nowhere"], "does not exist"),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(
    trained: tuple[Path, Path, Path], tmp_path: Path, given: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned, _ = trained
    words = [str(base) if word == "BASE" else word for word in given]
    assert main(["expo", str(tuned), *words, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_no_alpha_is_best_where_no_row_was_scored() -> None:
    points = [{"alpha": 0.5, "sets": {}, "accuracy": None, "nll": None}]
    with pytest.raises(InputError, match="no row could be graded or scored"):
        _best(points, None)


def test_a_sweep_evaluates_every_alpha_and_the_tuned_model_and_names_the_best(
    trained: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from curate.evaluation import Evaluation, EvaluationSet, evaluate

    base, tuned, rows = trained
    out = tmp_path / "out"
    given = ["expo", str(tuned), "--base", str(base), "--alpha=-1,0.5,2", "--out", str(out), "--no-generate"]
    given += ["--evaluation", f"one={rows}", "--evaluation", f"two={{data: {rows}, limit: 5}}"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "0 (tuned)" in shown
    assert "measure what it gains on others" in shown
    record = json.loads((out / "sweep.json").read_text())
    points = {point["alpha"]: point for point in record["points"]}
    assert list(points) == [-1, 0, 0.5, 2]
    settings = Evaluation(generate=False)
    for alpha, model in ((0, tuned), (-1, base), (2, out / "alpha-2")):
        (result,) = evaluate(model, {"one": rows}, settings).values()
        assert points[alpha]["sets"]["one"]["nll"] == pytest.approx(result.summary["nll"], rel=1e-6)
    assert record["by"] == "nll"
    assert record["best"] == min(points, key=lambda alpha: points[alpha]["nll"])
    parts = points[2]["sets"]
    assert points[2]["rows"] == parts["one"]["rows"] + parts["two"]["rows"] == 17
    assert (
        min(part["nll"] for part in parts.values()) <= points[2]["nll"] <= max(part["nll"] for part in parts.values())
    )
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "sweep.json"}
    assert main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files
    models = open_models(tuned, base)
    with pytest.raises(InputError, match="pass --fresh"):
        sweep(open_models(base, tuned), [0.5], out, sets=[EvaluationSet(data=rows, name="one")], settings=settings)
    turned = sweep(
        open_models(base, tuned), [0.5], out, sets=[EvaluationSet(data=rows, name="one")], settings=settings, fresh=True
    )
    assert turned["points"][0]["nll"] == pytest.approx(points[-1]["sets"]["one"]["nll"], rel=1e-6)
    with pytest.raises(InputError, match="choose by nll"):
        sweep(models, [0.5], out, settings=settings, by="accuracy")
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(notes\.txt\)"):
        sweep(models, [0.5], out)
