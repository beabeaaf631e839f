"""Models and tokenizers from folders: whole, identified by their content, and nothing of theirs is run or unpickled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from curate.checks import small_examples
from curate.errors import InputError
from curate.models import identify, load_model, load_tokenizer
from curate.models.loading import parameter_count
from curate.tokenization.encoding import tokenize
from tests.fixtures.models import LOADERS, same, saved, tiny_model, weights, write_gguf
from tests.fixtures.tokenizers import CHATML, byte_level

# -- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_folder_is_loaded_in_float32_and_eval_mode(family: str, dtype: Any, tmp_path: Path) -> None:
    kept = saved(tmp_path, family, dtype)
    model = load_model(str(tmp_path))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert same(weights(model), {name: tensor.float() for name, tensor in weights(kept).items()})
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == bool(kept.config.tie_word_embeddings)
    assert parameter_count(str(tmp_path), None, None) == sum(p.numel() for p in kept.parameters())
    assert load_tokenizer(str(tmp_path)).get_vocab() == byte_level().get_vocab()
    assert load_tokenizer(str(tmp_path)).chat_template == CHATML


def test_parameters_are_counted_without_reading_weights(tmp_path: Path) -> None:
    kept = saved(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert parameter_count(str(tmp_path), None, None) == sum(p.numel() for p in kept.parameters())


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    saved(tmp_path)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_model(str(tmp_path))
    parameter_count(str(tmp_path), None, None)
    assert torch.equal(torch.get_rng_state(), before)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pth", "model.ckpt", "weights.pt"])
def test_pickled_weights_are_refused_and_not_unpickled(name: str, tmp_path: Path) -> None:
    folder, marker = tmp_path / "model", tmp_path / "unpickled"
    saved(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Trap(marker)}, folder / name)
    for load in LOADERS:
        with pytest.raises(InputError, match=r"pickled weights only.*save_pretrained.*--proxy scratch") as caught:
            load(str(folder))
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    torch.load(folder / name, weights_only=False)
    assert marker.exists()  # the trap works


def test_pickles_beside_safetensors_are_ignored(tmp_path: Path) -> None:
    folder, marker = tmp_path / "model", tmp_path / "unpickled"
    kept = saved(folder)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        torch.save({"lm_head.weight": Trap(marker)}, folder / name)
    assert same(weights(load_model(str(folder))), weights(kept))
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"holds no weights: it has no model\.safetensors"):
        load_model(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_files_are_the_callers_to_mend(file: str, tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    says = "lacks the weight" if file == "model.safetensors" else f"cannot be loaded .its {file} is not readable"
    with pytest.raises(InputError, match=says) as caught:
        (load_tokenizer if file == "tokenizer.json" else load_model)(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./none", "/no/such/folder", "a/b/c", "~/none-such", "..", "no such model", "x:y"])
def test_what_does_not_exist_is_named_with_the_remedy(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for load in LOADERS:
        with pytest.raises(InputError, match="--proxy scratch") as caught:
            load(name)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_unknown_settings_of_a_tokenizer_are_not_printed(file: str, tmp_path: Path, capfd: Any) -> None:
    """tokenizers prints their names as they are, and on stdout, where --json has its object."""
    saved(tmp_path, "llama", torch.float32)
    text = json.loads((tmp_path / file).read_text())
    added = (
        text["added_tokens"] if file == "tokenizer.json" else [*text.setdefault("added_tokens_decoder", {}).values()]
    )
    if not added:
        added = [text["added_tokens_decoder"].setdefault("0", {"content": "<|begin|>", "special": True})]
    added[0]["\x1b[31mred"] = 1
    (tmp_path / file).write_text(json.dumps(text))
    load_tokenizer(str(tmp_path))
    os.write(1, b"and on")
    assert capfd.readouterr().out == "and on"


def test_no_name_is_no_model() -> None:
    for load in LOADERS:
        with pytest.raises(InputError, match="the path '' is not valid"):
            load("")


def test_folders_and_files_that_hold_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"0 \.gguf files"):
        identify(str(tmp_path))
    with pytest.raises(InputError, match=r"not \.gguf"):
        load_model(str(tmp_path / "weights.bin"))
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"2 \.gguf files; name one"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(tmp_path / "a.gguf"))


def test_a_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert identify("~/model") == identify(str(tmp_path / "model"))


# -- identity ------------------------------------------------------------------------------------------------------


def test_identity_is_content_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    saved(folder)
    first = identify(str(folder))
    folder = folder.rename(tmp_path / "two")
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    (folder / "README.md").write_text("words")
    (folder / "training_args.bin").write_bytes(b"x")
    assert identify(str(folder)) == first

    seen = {first}
    for file in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"):
        data = bytearray((folder / file).read_bytes())
        data[-3] ^= 1
        (folder / file).write_bytes(data)
        seen.add(identify(str(folder)))
    assert len(seen) == 6


def test_identity_knows_files_apart_by_their_place(tmp_path: Path) -> None:
    saved(tmp_path)
    for folder, text in (("a", "x"), ("b", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "extra.json").write_text(text)
    first = identify(str(tmp_path))
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert identify(str(tmp_path)) != first
    (tmp_path / "modeling_own.py").write_text("code")
    assert len({first, identify(str(tmp_path))}) == 2


# -- code of others ------------------------------------------------------------------------------------------------


def with_code(folder: Path, marker: Path) -> None:
    """A model folder of an unknown type whose classes are in a Python file beside it."""
    saved(folder)
    code = (
        f"import os; os.makedirs({str(marker)!r}, exist_ok=True)\n"
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
        "class OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "architectures": ["OwnModel"]}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    tokens |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))


def test_code_of_a_model_is_not_run_unasked_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = tmp_path / "model", tmp_path / "ran"
    with_code(folder, marker)
    asked: list[Any] = []
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    identify(str(folder))
    for load in LOADERS[1:]:
        with pytest.raises(InputError, match=r"not run unasked; read it and pass --trust-remote-code"):
            load(str(folder))
    assert not asked
    assert not marker.exists()


@pytest.mark.slow
def test_code_of_a_model_runs_when_trusted(tmp_path: Path) -> None:
    """In a process of its own, since the code stays imported."""
    folder, marker = tmp_path / "model", tmp_path / "ran"
    with_code(folder, marker)
    program = (
        "import sys; from curate.models import load_model, load_tokenizer, parameter_count\n"
        "print(parameter_count(sys.argv[1], None, None, trust_remote_code=True))\n"
        "print(type(load_model(sys.argv[1], trust_remote_code=True)).__name__)\n"
        "print(type(load_tokenizer(sys.argv[1], trust_remote_code=True)).__name__)\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    result = subprocess.run(
        [sys.executable, "-c", program, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )
    count = sum(p.numel() for p in tiny_model("llama", vocab_size=400).parameters())
    assert result.stdout.split()[-3:] == [str(count), "OwnModel", "OwnTokenizer"], result.stderr
    assert marker.exists()


def test_importing_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, curate.models, curate.models.hub, curate.tokenization, curate.proxy; print(sorted(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = result.stdout
    assert all(f"'{name}'" not in loaded for name in ("torch", "transformers", "huggingface_hub", "tokenizers"))


# -- GGUF files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("gguf")
    tokenizer = byte_level()
    model = tiny_model("llama", vocab_size=len(tokenizer))
    write_gguf(folder / "tiny.gguf", model, tokenizer)
    return folder, model


@pytest.mark.parametrize("as_file", [True, False])
def test_gguf_gives_the_weights_and_tokenizer_that_went_in(
    gguf_folder: tuple[Path, Any], as_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = gguf_folder
    name = str(folder / "tiny.gguf") if as_file else str(folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.gguf").write_bytes(b"another file of that name in the working directory")
    model, tokenizer = load_model(name), load_tokenizer(name)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert same(weights(model), weights(kept))
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, kept(ids).logits, atol=1e-5)
    for text in ("The answer is 42, é雪🙂.", "<|im_start|>user\nHi<|im_end|>"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == byte_level()(text)["input_ids"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin|>", "<|end|>")
    assert tokenizer.chat_template == CHATML
    assert parameter_count(name, None, None) == sum(p.numel() for p in kept.parameters())


@pytest.mark.parametrize("auto_bos", [True, False])
def test_rows_tokenized_with_a_gguf_file_begin_and_end_as_it_says(auto_bos: bool, tmp_path: Path) -> None:
    kept = byte_level(auto_bos=auto_bos)
    write_gguf(tmp_path / "tiny.gguf", tiny_model("llama", vocab_size=len(kept)), kept, auto_bos)
    examples = small_examples(6)
    found, expected = (
        tokenize(examples, tokenizer, template="plain", max_length=40)
        for tokenizer in (load_tokenizer(str(tmp_path)), kept)
    )
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.supervised.tolist() == expected.supervised.tolist()


def test_a_model_from_gguf_can_be_saved_and_trained(gguf_folder: tuple[Path, Any], tmp_path: Path) -> None:
    folder, kept = gguf_folder
    model = load_model(str(folder))
    model.save_pretrained(tmp_path)
    load_tokenizer(str(folder)).save_pretrained(tmp_path)
    assert same(weights(load_model(str(tmp_path))), weights(kept))
    assert load_tokenizer(str(tmp_path)).chat_template == CHATML
    ids = torch.arange(5, 60)[None]
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_identity_of_gguf_is_its_content(gguf_folder: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = gguf_folder
    first = identify(str(folder))
    assert identify(str(folder / "tiny.gguf")) == first
    data = bytearray((folder / "tiny.gguf").read_bytes())
    (tmp_path / "other-name.gguf").write_bytes(data)
    assert identify(str(tmp_path)) == first
    data[-1] ^= 1
    (tmp_path / "other-name.gguf").write_bytes(data)
    assert identify(str(tmp_path)) != first
