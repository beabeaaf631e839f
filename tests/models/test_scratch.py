"""Models and tokenizers made from scratch: the same in every process, and known by all that decides them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pyarrow as pa
import pytest
import torch

from curate.checks import small_examples
from curate.data.readers import read
from curate.models import scratch, scratch_model, scratch_tokenizer
from curate.models.loading import parameter_count
from curate.models.scratch import scratch_identity
from tests.fixtures.models import same, weights

# -- from scratch --------------------------------------------------------------------------------------------------
_SCRATCH = """
import hashlib, sys
from curate.checks import small_examples
from curate.models import scratch_model, scratch_tokenizer
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
    monkeypatch.setattr(scratch, "_SCRATCH_TEXT_ROWS", 10)
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
    monkeypatch.setattr(scratch, "_SCRATCH_VOCABULARY", 500)
    seen.add(scratch_identity("data", 64, 0))
    monkeypatch.setattr(scratch, "_SCRATCH_SHAPE", {**scratch._SCRATCH_SHAPE, "hidden_size": 64})
    seen.add(scratch_identity("data", 64, 0))
    assert len(seen) == 6
    assert scratch_identity("data", 64, 0) == scratch_identity("data", 64, 0)
