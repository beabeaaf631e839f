"""Causal language models and their tokenizers: from a hub id, a folder, a GGUF file, or from scratch."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.hashing import file_digest
from curate.hub import Place, explained, locate
from curate.model_files import SUFFIXES, check_files, check_layers, check_tokenizer, check_weights
from curate.places import files_under

if TYPE_CHECKING:
    from curate.cache import Cache
    from curate.examples import Examples

__all__ = [
    "SCRATCH",
    "context_length",
    "context_of",
    "identify",
    "load_model",
    "load_tokenizer",
    "parameter_count",
    "quiet",
    "scratch_identity",
    "scratch_model",
    "scratch_tokenizer",
]

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
_SCRATCH_TEXT_ROWS = 50_000  # the tokenizer is trained on a sample: merges settle long before


def identify(name: str, revision: str | None = None, cache: Cache | None = None) -> str:
    """A string that changes when the weights or tokenizer files do, without loading them.

    Folders and GGUF files are identified by content, hub ids by the commit they resolve to. cache: see
    `curate.hashing.file_digest`. Raises InputError for a folder whose files lack weights, see `check_files`.
    """
    place = locate(name, revision)
    if place.commit:
        return f"hub:{name}@{place.commit}"
    if not place.gguf:
        check_files(name, Path(place.path))  # reads headers alone, long before anybody loads the weights
    return f"files:{file_digest(_files(place), cache)}"


def _files(place: Place) -> list[tuple[Path, str]]:
    """The files of a local model that decide what it computes, by their path in its folder."""
    if place.gguf:
        return [(Path(place.gguf), "gguf")]  # under whatever name
    folder = Path(place.path)
    found = sorted((path.relative_to(folder).as_posix(), path) for path in files_under(folder))
    return [(path, name) for name, path in found if path.suffix in SUFFIXES]


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer that belongs to a model. Raises as `load_model` does."""
    place = locate(name, revision)
    with explained(name, place):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(**place.arguments, trust_remote_code=trust_remote_code)
        if place.gguf:
            _take_ends_from_file(tokenizer, place.gguf)
        tokenizer("a")  # settings of the wrong type, such as a list as the longest text, are met at the first use
    check_tokenizer(name, tokenizer)
    return tokenizer


def _take_ends_from_file(tokenizer: Any, path: str) -> None:
    """transformers 5.17 takes the beginning-of-sequence of a Llama's GGUF file for its end and the other way round, and
    forgets whether to put it there."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    wrong = False
    for end in ("bos", "eos"):
        field = fields.get(f"tokenizer.ggml.{end}_token_id")
        if field is not None and getattr(tokenizer, f"{end}_token_id") != field.contents():
            setattr(tokenizer, f"{end}_token", tokenizer.convert_ids_to_tokens(int(field.contents())))
            wrong = True
    if wrong:
        adds = fields.get("tokenizer.ggml.add_bos_token")
        tokenizer.add_bos_token = bool(adds.contents()) if adds is not None else tokenizer.add_bos_token
        tokenizer.update_post_processor()


def load_model(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model with float32 weights, in eval mode. Only safetensors and GGUF are read, never pickle.

    Raises InputError for what cannot be loaded, or lacks a weight, and ExternalError where the hub cannot be reached.
    """
    import torch

    place = locate(name, revision)
    types = {} if place.gguf or place.commit else check_files(name, Path(place.path))
    with explained(name, place), quiet():
        import transformers

        if place.gguf:
            _opened_gguf(name, place.gguf)
        packed = {"quantization_config": transformers.GgufConfig(dequantize=True)} if place.gguf else {}
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            **place.arguments,
            trust_remote_code=trust_remote_code,
            use_safetensors=None if place.gguf else True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the weight can be named
            **packed,
        )
    check_weights(name, model, info, types)
    if place.gguf:
        _forget_quantisation(model)
    return model.float().eval()


def _opened_gguf(name: str, path: str) -> Any:
    """A reader of a GGUF file. Raises InputError where it counts more layers than it can hold."""
    import gguf

    reader = gguf.GGUFReader(path)
    counts = {key: field.contents() for key, field in reader.fields.items() if key.endswith(".block_count")}
    check_layers(name, counts, len(reader.tensors))
    return reader


def _forget_quantisation(model: Any) -> None:
    """The weights are plain float32 now; leftovers of the packed form make save_pretrained refuse."""
    model.hf_quantizer = None
    model.is_quantized = False
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def context_of(config: Any) -> int | None:
    """Most tokens of prompt and completion together by a model's configuration; None = no limit is known."""
    settings: Mapping[str, Any] = config.get_text_config().to_dict()
    return next(
        (int(settings[name]) for name in ("max_position_embeddings", "n_positions") if settings.get(name)), None
    )


def context_length(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> int | None:
    """`context_of` a model, whose weights are not loaded; None also for one from scratch."""
    if name == SCRATCH:
        return None
    place = locate(name, revision)
    with explained(name, place):
        import transformers

        config = transformers.AutoConfig.from_pretrained(**place.arguments, trust_remote_code=trust_remote_code)
    return context_of(config)


class quiet:
    """No progress bars of transformers between ours, and no report over many lines of what one line says."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self.gguf = vars(importlib.import_module("transformers.modeling_gguf_pytorch_utils"))
        self.bar = self.gguf["tqdm"]
        self.gguf["tqdm"] = lambda items, **_: items  # a bar of its own, that nothing else turns off
        self.active = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        self.logger = logging.getLogger("transformers.modeling_utils")
        self.logger.addFilter(_is_error)  # its level would also decide what is looked at

    def __exit__(self, *_: Any) -> None:
        from transformers.utils import logging as transformers_logging

        self.gguf["tqdm"] = self.bar
        self.logger.removeFilter(_is_error)
        if self.active:
            transformers_logging.enable_progress_bar()


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

    from curate.seeds import derive_seed

    rows = np.arange(len(examples))
    if len(rows) > _SCRATCH_TEXT_ROWS:
        generator = np.random.default_rng(derive_seed(seed, "tokenizer"))
        rows = np.sort(generator.choice(rows, _SCRATCH_TEXT_ROWS, replace=False))
    sample = examples.take(rows)
    for low in range(0, len(sample), 1000):
        high = min(low + 1000, len(sample))
        texts: list[str] = []
        for role in sample.content_roles:
            for cell in sample.texts(role, low, high):
                if isinstance(cell, list):
                    texts += [turn["content"][:20_000] for turn in cell]
                elif cell:
                    texts.append(cell[:20_000])  # one 10 MB cell must not be the whole vocabulary
        yield texts


def scratch_model(tokenizer: Any, max_length: int, seed: int) -> Any:
    """A small Llama with random float32 weights drawn from `seed`; embeddings tied."""
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


def scratch_identity(examples_fingerprint: str, max_length: int | str, seed: int) -> str:
    """What `identify` is for the scratch proxy: all that decides its tokenizer and first weights."""
    text = json.dumps([examples_fingerprint, _SCRATCH_VOCABULARY, _SCRATCH_SHAPE, _SCRATCH_TEXT_ROWS, max_length, seed])
    return "scratch:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parameter_count(name: str, revision: str | None, tokenizer: Any, *, trust_remote_code: bool = False) -> int:
    """Parameters of a model, counted on its shapes alone; tokenizer: of the scratch proxy, else unused."""
    import torch

    if name == SCRATCH:
        with torch.device("meta"):
            return sum(p.numel() for p in scratch_model(tokenizer, 512, 0).parameters())
    place = locate(name, revision)
    with explained(name, place):
        import transformers

        if place.gguf:
            # rope_freqs is a table derived from the configuration, not a weight.
            tensors = _opened_gguf(name, place.gguf).tensors
            return sum(int(tensor.n_elements) for tensor in tensors if not tensor.name.startswith("rope_freqs"))
        config = transformers.AutoConfig.from_pretrained(**place.arguments, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return sum(p.numel() for p in model.parameters())
