"""Tiny random causal language models of many families, and random tokens to run them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from curate.tokens import Tokens

__all__ = ["FAMILIES", "VOCABULARY", "random_tokens", "tiny_model"]

VOCABULARY = 211

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_WINDOWED = {**_GROUPED, "head_dim": 8, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}

# family: (config class, its arguments). Every way that a family reaches its logits or attention is in here once.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**_GROUPED, "tie_word_embeddings": False}),
    "llama_tied": ("LlamaConfig", {**_GROUPED, "tie_word_embeddings": True}),
    "gpt_neox": ("GPTNeoXConfig", _SHAPE),
    "gemma2": (
        "Gemma2Config",
        {**_WINDOWED, "final_logit_softcapping": 5.0, "attn_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    ),
    "gemma3": ("Gemma3TextConfig", {**_WINDOWED, "query_pre_attn_scalar": 8}),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 16}),
    "mistral": ("MistralConfig", {**_GROUPED, "sliding_window": 16}),
    "phi": ("PhiConfig", _SHAPE),  # its head has a bias
    "phi3": ("Phi3Config", _GROUPED),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "cohere": ("CohereConfig", {**_GROUPED, "logit_scale": 0.25}),
    "granite": ("GraniteConfig", {**_GROUPED, "logits_scaling": 4.0}),
}


def tiny_model(family: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A float32 model in evaluation mode, dropout 0, with weights large enough that its losses differ by row."""
    import transformers

    name, arguments = FAMILIES[family]
    config = getattr(transformers, name)(**{**arguments, **changes})
    for dropout in ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if getattr(config, dropout, 0):
            setattr(config, dropout, 0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
            elif parameter.abs().max() == 0:  # biases start at zero, where forgetting one would not show
                torch.nn.init.normal_(parameter, std=0.1)
    return model.float().eval()


def random_tokens(
    lengths: Sequence[tuple[int, int]], seed: int = 0, vocabulary: int = VOCABULARY, invalid: Sequence[int] = ()
) -> Tokens:
    """Rows given as (prompt tokens, completion tokens); rows named in `invalid` have no supervised token."""
    rng = np.random.default_rng(seed)
    counts = np.array([prompt + completion for prompt, completion in lengths], np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    supervised = np.zeros(offsets[-1], bool)
    for row, (prompt, _) in enumerate(lengths):
        if row not in invalid:
            supervised[offsets[row] + max(prompt, 1) : offsets[row + 1]] = True
    valid = np.array([row not in invalid for row in range(len(lengths))])
    ids = rng.integers(3, vocabulary, offsets[-1]).astype(np.int32)
    return Tokens(ids, supervised, offsets, valid, *np.zeros((2, len(lengths)), np.int32))
