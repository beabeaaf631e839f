"""GGUF files give the weights and the tokenizer that went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from curate.checks import small_examples
from curate.models import identify, load_model, load_tokenizer
from curate.models.loading import parameter_count
from curate.tokenization.encoding import tokenize
from tests.fixtures.models import same, tiny_model, weights, write_gguf
from tests.fixtures.tokenizers import CHATML, byte_level


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
