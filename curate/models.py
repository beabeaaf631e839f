"""Causal language models and their tokenizers: from a hub id, a folder, a GGUF file, or from scratch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import ExternalError, InputError

if TYPE_CHECKING:
    from curate.examples import Examples

__all__ = [
    "SCRATCH",
    "identify",
    "load_model",
    "load_tokenizer",
    "parameter_count",
    "scratch_identity",
    "scratch_model",
    "scratch_tokenizer",
]

SCRATCH = "scratch"

# The scratch proxy. Wide enough to learn arithmetic templates, small enough for 300 steps a minute on two cores.
_SCRATCH_VOCABULARY = 4096
_SCRATCH_SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
_SCRATCH_TEXT_ROWS = 50_000  # the tokenizer is trained on a sample: merges settle long before


def identify(name: str, revision: str | None = None) -> str:
    """A string that changes when the weights or tokenizer files do, without loading them.

    Folders and GGUF files are identified by content, hub ids by the commit they resolve to.
    """
    path = Path(name)
    if path.exists():
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and _matters(p))
        digest = hashlib.blake2b(digest_size=16)
        for file in files:
            digest.update(file.name.encode())
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return f"files:{digest.hexdigest()}"
    with _explained(name):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(_hub_id(name), revision=revision)
    return f"hub:{name}@{getattr(config, '_commit_hash', None) or revision}"


def _matters(path: Path) -> bool:
    return path.suffix in {".safetensors", ".gguf", ".json", ".model", ".txt", ".jinja", ".tiktoken"}


def _hub_id(name: str) -> str:
    """`name` if it can be a hub id, else InputError for the path that does not exist."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or (os.sep != "/" and os.sep in name):
        raise InputError(f"model {name!r} does not exist; give a folder, a GGUF file, a hub id, or --proxy scratch")
    return name


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    from transformers import AutoTokenizer

    folder, gguf = _locate(name)
    with _explained(name):
        extra = {"gguf_file": gguf} if gguf else {}
        return AutoTokenizer.from_pretrained(
            folder, revision=revision or "main", trust_remote_code=trust_remote_code, **extra
        )


def load_model(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The model with float32 weights, in eval mode. Only safetensors and GGUF are read, never pickle.

    Raises InputError for what cannot be loaded, ExternalError where the hub cannot be reached.
    """
    import torch
    import transformers

    folder, gguf = _locate(name)
    extra: dict[str, Any] = {}
    if gguf:
        extra["gguf_file"] = gguf
        if "GgufConfig" in dir(transformers):  # newer releases keep the weights packed unless told otherwise
            extra["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with _explained(name), _quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            revision=revision or "main",
            trust_remote_code=trust_remote_code,
            use_safetensors=None if gguf else True,
            dtype=torch.float32,
            **extra,
        )
    if gguf:
        _forget_quantisation(model)
    return model.float().eval()


def _forget_quantisation(model: Any) -> None:
    """The weights are plain float32 now; leftovers of the packed form make save_pretrained refuse."""
    model.hf_quantizer = None
    model.is_quantized = False
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config


def _locate(name: str) -> tuple[str, str | None]:
    """(folder or hub id, name of the GGUF file in it or None)."""
    path = Path(name)
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"model {name!r} is a file but not .gguf; give the folder that holds config.json")
        return str(path.parent), path.name
    if path.is_dir():
        if (path / "config.json").exists():
            if not any(path.glob("*.safetensors")) and any([*path.glob("*.bin"), *path.glob("*.pt")]):
                raise InputError(
                    f"model {name!r} holds pickled weights only, which are never read; "
                    "convert them once with `model.save_pretrained(folder, safe_serialization=True)`"
                )
            return name, None
        found = sorted(path.glob("*.gguf"))
        if len(found) == 1:
            return name, found[0].name
        raise InputError(f"model folder {name!r} has no config.json and {len(found)} .gguf files; give one model")
    return _hub_id(name), None


class _explained:
    """Turn what transformers and the hub raise into one line with a remedy."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, InputError | ExternalError | KeyboardInterrupt):
            return
        text = " ".join(str(error).split())
        remedy = "give a local folder, or --proxy scratch, which needs no download"
        if isinstance(error, ImportError):
            raise InputError(f"model {self.name!r} needs a missing package: {text[:200]}") from error
        if isinstance(error, OSError) and _unreachable(text):
            raise ExternalError(f"model {self.name!r} is not here and the hub cannot be reached; {remedy}") from error
        if isinstance(error, OSError | ValueError | KeyError | RuntimeError | TypeError):
            raise InputError(f"model {self.name!r} cannot be loaded ({text[:200]}); {remedy}") from error


def _unreachable(text: str) -> bool:
    signs = ("couldn't connect", "could not connect", "offline mode", "connection", "cannot find the requested files")
    return any(sign in text.lower() for sign in signs)


class _quiet:
    """No progress bars of transformers between ours."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.active = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()

    def __exit__(self, *_: Any) -> None:
        from transformers.utils import logging

        if self.active:
            logging.enable_progress_bar()


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


def scratch_identity(examples_fingerprint: str, max_length: int, seed: int) -> str:
    """What `identify` is for the scratch proxy: all that decides its tokenizer and first weights."""
    text = json.dumps([examples_fingerprint, _SCRATCH_VOCABULARY, _SCRATCH_SHAPE, _SCRATCH_TEXT_ROWS, max_length, seed])
    return "scratch:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parameter_count(name: str, revision: str | None, tokenizer: Any) -> int:
    """Parameters of a model, counted on its shapes alone; for GGUF guessed from the size of the file."""
    import torch
    import transformers

    if name == SCRATCH:
        with torch.device("meta"):
            return sum(p.numel() for p in scratch_model(tokenizer, 512, 0).parameters())
    folder, gguf = _locate(name)
    if gguf:
        return Path(folder, gguf).stat().st_size  # about one byte per weight
    with _explained(name):
        config = transformers.AutoConfig.from_pretrained(folder, revision=revision or "main")
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())
