"""Models and tokenizers from folders, GGUF files, the hub and from scratch; nothing foreign is run or unpickled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.checks import small_examples
from curate.data.readers import read
from curate.errors import ExternalError, InputError
from curate.models import hub
from curate.models import loading as models
from curate.models.loading import identify, load_model, load_tokenizer, parameter_count
from curate.models.scratch import scratch_identity, scratch_model, scratch_tokenizer
from curate.tokenization.encoding import tokenize
from tests.fixtures.models import tiny_model
from tests.fixtures.tokenizers import CHATML, byte_level

LOADERS: list[Callable[[str], Any]] = [
    identify,
    load_tokenizer,
    load_model,
    lambda name: parameter_count(name, None, None),
]


@pytest.fixture(autouse=True)
def _forget_the_hub() -> Iterator[None]:
    hub._on_hub.cache_clear()
    yield
    hub._on_hub.cache_clear()


def saved(folder: Path, family: str = "llama", dtype: Any = torch.float32, **changes: Any) -> Any:
    """A tiny model and its tokenizer in `folder`; the model as it was saved."""
    tokenizer = byte_level(chat=CHATML)
    model = tiny_model(family, vocab_size=len(tokenizer), **changes).to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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


# -- the hub -------------------------------------------------------------------------------------------------------


def answers(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> list[Any]:
    """Put `answer` in place of the hub; the calls made."""
    import huggingface_hub

    calls: list[Any] = []

    def model_info(self: Any, name: str, **options: Any) -> Any:
        calls.append((name, options))
        return answer()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return calls


def test_no_connection_is_told_at_once_and_resumable() -> None:
    started = time.perf_counter()
    for load in LOADERS:
        with pytest.raises(ExternalError, match=r"nobody/nothing.*hub cannot be reached.*--proxy scratch") as caught:
            load("nobody/nothing")
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 20  # imports included


def test_a_hub_that_fails_or_hangs_is_asked_once_with_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise TimeoutError("timed out")

    calls = answers(monkeypatch, fail)
    with pytest.raises(ExternalError, match=r"cannot be reached \(TimeoutError\).*--proxy scratch"):
        load_model("nobody/nothing")
    assert len(calls) == 1
    assert 0 < calls[0][1]["timeout"] <= 30


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("RepositoryNotFoundError", "neither a folder here nor on the hub .*--proxy scratch"),
        ("GatedRepoError", r"permission: accept its terms .*hf auth login.*--proxy scratch"),
        ("RevisionNotFoundError", "no revision 'v9'"),
    ],
)
def test_what_the_hub_does_not_have_is_the_callers_fault(kind: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import errors

    error = getattr(errors, kind)

    def refuse() -> Any:
        raise error.__new__(error)  # its constructor wants a response, which differs between releases

    answers(monkeypatch, refuse)
    for load in (identify, load_tokenizer, load_model):
        with pytest.raises(InputError, match=says):
            load("nobody/nothing", revision="v9")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_hub_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lay a model out as the hub's client caches it."""
    import huggingface_hub.constants

    home = cache / "models--some--model"
    kept = saved(home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(cache))
    return kept


def test_a_cached_model_is_loaded_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = in_hub_cache(tmp_path, monkeypatch)
    assert identify("some/model") == f"hub:some/model@{COMMIT}"
    assert identify("some/model", COMMIT) == f"hub:some/model@{COMMIT}"
    assert same(weights(load_model("some/model")), weights(kept))
    assert load_tokenizer("some/model").chat_template == CHATML
    assert parameter_count("some/model", None, None) == sum(p.numel() for p in kept.parameters())
    with pytest.raises(ExternalError, match="at revision 'other'"):
        load_model("some/model", revision="other")


def test_a_half_cached_model_needs_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_hub_cache(tmp_path, monkeypatch)
    (tmp_path / "models--some--model" / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(ExternalError, match=r"not complete in the hub's local cache.*--proxy scratch"):
        load_model("some/model")


def test_one_commit_is_identified_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    answers(monkeypatch, lambda: types.SimpleNamespace(sha=COMMIT))
    asked: list[dict[str, Any]] = []

    def from_pretrained(**options: Any) -> Any:
        asked.append(options)
        return tiny_model(), {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set()}

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    load_model("some/model", revision="main")
    assert identify("some/model", "main") == f"hub:some/model@{COMMIT}"
    assert asked[0]["revision"] == COMMIT
    assert asked[0]["pretrained_model_name_or_path"] == "some/model"
    assert asked[0]["trust_remote_code"] is False
    assert asked[0]["use_safetensors"] is True


# -- GGUF ----------------------------------------------------------------------------------------------------------


def write_gguf(path: Path, model: Any, tokenizer: Any, auto_bos: bool = False, leave_out: str | None = None) -> None:
    """A Llama as llama.cpp's converter writes it, in float32. leave_out: a weight that is not written."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    inner = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(inner["vocab"], key=inner["vocab"].__getitem__)
    special = set(tokenizer.all_special_tokens) | {"<unk>", "<|im_start|>", "<|im_end|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word in special else 1 for word in words])
    writer.add_token_merges([" ".join(merge) for merge in inner["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(auto_bos)
    writer.add_chat_template(CHATML)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        **{f"self_attn.{letter}_proj": f"attn_{letter}" for letter in "qkv"},
        "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        **{f"mlp.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
    }
    for name, tensor in model.state_dict().items():
        if name == leave_out:
            continue
        stem = name.removesuffix(".weight")
        block = ""
        if stem.startswith("model.layers."):
            _, _, number, stem = stem.split(".", 3)
            block = f"blk.{number}."
        array = tensor.numpy()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(names[stem])
        if heads:  # rotary halves are interleaved there
            array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(f"{block}{names[stem]}.weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
def test_rows_tokenised_with_a_gguf_file_begin_and_end_as_it_says(auto_bos: bool, tmp_path: Path) -> None:
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


# -- from scratch --------------------------------------------------------------------------------------------------

_SCRATCH = """
import hashlib, sys
from curate.checks import small_examples
from curate.models.scratch import scratch_model, scratch_tokenizer
tokenizer = scratch_tokenizer(small_examples(60), 3)
digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode())
for name, tensor in scratch_model(tokenizer, 64, 3).state_dict().items():
    digest.update(name.encode() + tensor.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_scratch_is_the_same_in_every_process(capsys: pytest.CaptureFixture[str]) -> None:
    exec(_SCRATCH, {})
    environment = {**os.environ, "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3", "TOKENIZERS_PARALLELISM": "true"}
    result = subprocess.run(
        [sys.executable, "-c", _SCRATCH], env=environment, capture_output=True, text=True, timeout=200, check=True
    )
    assert result.stdout.split()[-1] == capsys.readouterr().out.split()[-1]


def test_scratch_tokenizer_keeps_digits_apart_and_text_whole() -> None:
    table = {"prompt": [f"{k} + {k} is 2024 2024" for k in range(200)], "completion": ["2024 é雪🙂\n\n x"] * 200}
    tokenizer = scratch_tokenizer(read(pa.table(table)).examples, 0)
    assert not [word for word in tokenizer.get_vocab() if sum(letter.isdigit() for letter in word) > 1]
    assert len(tokenizer("2024")["input_ids"]) == 4
    for text in ("12345 and 2024", "é雪🙂\n\n x", "\tnever seen: ĀΩ\x00"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin|>", "<|end|>")
    assert len(tokenizer) <= 4096


def test_scratch_tokenizer_reads_every_content_role_and_no_more_than_its_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = [[{"role": "user", "content": "zebra"}, {"role": "assistant", "content": "giraffe"}]] * 50
    for table in (
        {"messages": turns},
        {"instruction": ["zebra"] * 50, "input": [None] * 50, "output": ["giraffe"] * 50},
        {"text": ["zebra giraffe"] * 50},
    ):
        words = scratch_tokenizer(read(pa.table(table)).examples, 0).get_vocab()
        assert "zebra" in words
        assert words.keys() & {"giraffe", "Ġgiraffe"}
    monkeypatch.setattr(models, "_SCRATCH_TEXT_ROWS", 10)
    many = read(pa.table({"text": [f"row {chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(300)]})).examples
    sampled = [scratch_tokenizer(many, seed).get_vocab() for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1]
    assert sampled[0] != sampled[2]


def test_a_huge_cell_is_not_the_whole_vocabulary() -> None:
    started = time.process_time()
    table = {"text": ["x" * 10_000_000, *["giraffe"] * 20]}
    tokenizer = scratch_tokenizer(read(pa.table(table)).examples, 0)
    assert "giraffe" in tokenizer.get_vocab()
    assert time.process_time() - started < 5


def test_scratch_model_is_drawn_from_its_seed_and_nothing_else() -> None:
    tokenizer = scratch_tokenizer(small_examples(), 0)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = scratch_model(tokenizer, 64, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert same(weights(first), weights(scratch_model(tokenizer, 64, 0)))
    other = weights(scratch_model(tokenizer, 64, 1))
    assert not torch.equal(other["model.embed_tokens.weight"], weights(first)["model.embed_tokens.weight"])
    assert not first.training
    assert {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    assert first.get_input_embeddings().weight is first.get_output_embeddings().weight
    assert first.config.vocab_size == len(tokenizer)
    assert parameter_count("scratch", None, tokenizer) == sum(p.numel() for p in first.parameters())


def test_scratch_identity_changes_with_all_that_decides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {scratch_identity("data", 64, 0), scratch_identity("other", 64, 0)}
    seen |= {scratch_identity("data", 65, 0), scratch_identity("data", 64, 1)}
    monkeypatch.setattr(models, "_SCRATCH_VOCABULARY", 500)
    seen.add(scratch_identity("data", 64, 0))
    monkeypatch.setattr(models, "_SCRATCH_SHAPE", {**models._SCRATCH_SHAPE, "hidden_size": 64})
    seen.add(scratch_identity("data", 64, 0))
    assert len(seen) == 6
    assert scratch_identity("data", 64, 0) == scratch_identity("data", 64, 0)


def test_importing_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, curate.models, curate.models.hub, curate.tokenization, curate.proxy; print(sorted(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = result.stdout
    assert all(f"'{name}'" not in loaded for name in ("torch", "transformers", "huggingface_hub", "tokenizers"))


def test_public_names() -> None:
    assert all(hasattr(module, name) for module in (models, hub) for name in module.__all__)
