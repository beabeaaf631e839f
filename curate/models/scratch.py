"""Build a small transformer and its tokenizer from the training data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from curate.data.examples import Examples
from curate.data.messages import strings_in
from curate.seeds import derive_seed

SCRATCH = "scratch"


# The scratch proxy. Wide enough to learn the templates of a dataset, small enough for 300 steps in a minute or so on
# two cores.
_SCRATCH_VOCABULARY = 4096


_SCRATCH_SHAPE: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


_SCRATCH_TEXT_ROWS = 50_000  # the tokenizer is trained on a sample: merges converge long before


def scratch_tokenizer(examples: Examples, seed: int) -> Any:
    """A byte-level BPE tokenizer trained on (a seeded sample of) the examples; digits stay apart.

    Digits one by one, as in recent models: otherwise frequent numbers would be single tokens and the same sum
    would be easy or hard by the accident of a merge.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SCRATCH_VOCABULARY,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample_texts(examples, seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>"
    )


def _sample_texts(examples: Examples, seed: int) -> Iterator[list[str]]:
    import numpy as np

    rows = np.arange(len(examples))  # (rows,)
    if len(rows) > _SCRATCH_TEXT_ROWS:
        generator = np.random.default_rng(derive_seed(seed, "tokenizer"))
        rows = np.sort(generator.choice(rows, _SCRATCH_TEXT_ROWS, replace=False))
    sample = examples.take(rows)
    for low in range(0, len(sample), 1000):
        high = min(low + 1000, len(sample))
        texts: list[str] = []
        for role in sample.content_roles:
            for cell in sample.texts(role, low, high):
                # One cell of 10 MB must not dominate the vocabulary.
                texts += [text[:20_000] for text in _texts_of(cell)]
        yield texts


def _texts_of(cell: Any) -> list[str]:
    """The texts of a cell: a string, the turns of a conversation, or tools."""
    if not isinstance(cell, list):
        return [cell] if cell else []
    turns = [{key: value for key, value in item.items() if key not in ("role", "train")} for item in cell]
    return [text for turn in turns for text in strings_in(list(turn.values()))]


def scratch_model(tokenizer: Any, max_length: int, seed: int) -> Any:
    """A small Llama with random float32 weights drawn from `seed` and tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **_SCRATCH_SHAPE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


def scratch_parameters(tokenizer: Any) -> int:
    """Number of parameters of `scratch_model`, without transformers' models, which take seconds to import."""
    width, layers = _SCRATCH_SHAPE["hidden_size"], _SCRATCH_SHAPE["num_hidden_layers"]
    keys = width * _SCRATCH_SHAPE["num_key_value_heads"] // _SCRATCH_SHAPE["num_attention_heads"]
    attention = 2 * width * width + 2 * width * keys
    norms = 2 * width
    layer = attention + 3 * width * _SCRATCH_SHAPE["intermediate_size"] + norms
    return len(tokenizer) * width + layers * layer + width


def scratch_identity(examples_fingerprint: str, max_length: int | str, seed: int) -> str:
    """The counterpart of `identify` for the scratch proxy: all that determines its tokenizer and initial weights."""
    text = json.dumps([examples_fingerprint, _SCRATCH_VOCABULARY, _SCRATCH_SHAPE, _SCRATCH_TEXT_ROWS, max_length, seed])
    return "scratch:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
