"""Load causal language models and their tokenizers from a hub id, a folder or a GGUF file."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.models.hub import Place, explain_load_errors, locate
from curate.models.model_files import SUFFIXES, check_files, check_layers, check_tokenizer, check_weights
from curate.models.scratch import SCRATCH, scratch_parameters
from curate.storage.cache import Cache
from curate.storage.hashing import file_digest
from curate.storage.places import files_under


def identify(name: str, revision: str | None = None, cache: Cache | None = None) -> str:
    """A string that changes when the weights or tokenizer files do, without loading them.

    Folders and GGUF files are identified by content, hub ids by the commit they resolve to. cache: see
    `curate.storage.hashing.file_digest`. Raises InputError for a folder whose files lack weights, see `check_files`.
    """
    place = locate(name, revision)
    if place.commit:
        return f"hub:{name}@{place.commit}"
    if not place.gguf:
        check_files(name, Path(place.path))  # reads only headers, long before the weights are loaded
    return f"files:{file_digest(_files(place), cache)}"


def _files(place: Place) -> list[tuple[Path, str]]:
    """The files of a local model that determine what it computes, by their path in its folder."""
    if place.gguf:
        return [(Path(place.gguf), "gguf")]  # under a fixed name
    folder = Path(place.path)
    files = sorted((path.relative_to(folder).as_posix(), path) for path in files_under(folder))
    return [(path, name) for name, path in files if path.suffix in SUFFIXES]


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The tokenizer that belongs to a model. Raises as `load_model` does."""
    place = locate(name, revision)
    with explain_load_errors(name, place):
        from transformers import AutoTokenizer

        with without_stdout():
            tokenizer = AutoTokenizer.from_pretrained(**place.arguments, trust_remote_code=trust_remote_code)
        if place.gguf:
            _take_ends_from_file(tokenizer, place.gguf)
        tokenizer("a")  # settings of the wrong type, such as a list as the maximum length, only fail on first use
    check_tokenizer(name, tokenizer)
    return tokenizer


def _take_ends_from_file(tokenizer: Any, path: str) -> None:
    """Set begin- and end-of-sequence tokens as in the file.

    transformers 5.17 swaps the two for a Llama's GGUF file, and drops the setting for a leading beginning of sequence.
    """
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
    """Load a model with float32 weights, in eval mode. Only safetensors and GGUF are read, never pickle.

    Raises InputError for what cannot be loaded, or lacks a weight, and ExternalError if the hub cannot be reached.
    """
    import torch

    place = locate(name, revision)
    types = {} if place.gguf or place.commit else check_files(name, Path(place.path))
    with explain_load_errors(name, place), quiet():
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
            ignore_mismatched_sizes=True,  # so that the weight can be named in the error
            **packed,
        )
    check_weights(name, model, info, types)
    if place.gguf:
        _forget_quantization(model)
    return model.float().eval()


def _opened_gguf(name: str, path: str) -> Any:
    """A reader of a GGUF file. Raises InputError if it declares more layers than it can hold."""
    import gguf

    reader = gguf.GGUFReader(path)
    counts = {key: field.contents() for key, field in reader.fields.items() if key.endswith(".block_count")}
    check_layers(name, counts, len(reader.tensors))
    return reader


def _forget_quantization(model: Any) -> None:
    """Drop quantization settings: the weights are plain float32 now, and save_pretrained would refuse them."""
    model.hf_quantizer = None
    model.is_quantized = False
    if getattr(model.config, "quantization_config", None) is not None:
        del model.config.quantization_config


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def context_of(config: Any) -> int | None:
    """Maximum tokens of prompt and completion together, by a model's configuration; None = no known limit."""
    settings: Mapping[str, Any] = config.get_text_config().to_dict()
    return next(
        (int(settings[name]) for name in ("max_position_embeddings", "n_positions") if settings.get(name)), None
    )


def context_length(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> int | None:
    """`context_of` a model without loading its weights; None also for one from scratch."""
    if name == SCRATCH:
        return None
    place = locate(name, revision)
    with explain_load_errors(name, place):
        return context_of(_configuration(place, trust_remote_code))


def _configuration(place: Place, trust_remote_code: bool) -> Any:
    import transformers

    return transformers.AutoConfig.from_pretrained(**place.arguments, trust_remote_code=trust_remote_code)


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off transformers' progress bars, and its multi-line reports on errors that are reported in one line here."""
    from transformers.utils import logging as transformers_logging

    gguf = vars(importlib.import_module("transformers.modeling_gguf_pytorch_utils"))
    bar, active = gguf["tqdm"], transformers_logging.is_progress_bar_enabled()
    logger = logging.getLogger("transformers.modeling_utils")
    gguf["tqdm"] = lambda items, **_: items  # its own progress bar, which has no switch
    transformers_logging.disable_progress_bar()
    logger.addFilter(_is_error)  # a log level would also change what transformers checks
    try:
        yield
    finally:
        gguf["tqdm"] = bar
        logger.removeFilter(_is_error)
        if active:
            transformers_logging.enable_progress_bar()


@contextmanager
def without_stdout() -> Iterator[None]:
    """Discard what a library prints past `sys.stdout`: tokenizers names unknown settings of a file there, as they are.

    With --json, stdout is one object; and such a name may hold escape sequences for the terminal.
    """
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def parameter_count(name: str, revision: str | None, tokenizer: Any, *, trust_remote_code: bool = False) -> int:
    """Number of parameters of a model, from shapes only; tokenizer: of the scratch proxy, else unused."""
    if name == SCRATCH:
        return scratch_parameters(tokenizer)
    import torch

    place = locate(name, revision)
    with explain_load_errors(name, place):
        import transformers

        if place.gguf:
            # rope_freqs is a table derived from the configuration, not a weight.
            tensors = _opened_gguf(name, place.gguf).tensors
            return sum(int(tensor.n_elements) for tensor in tensors if not tensor.name.startswith("rope_freqs"))
        config = _configuration(place, trust_remote_code)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return sum(p.numel() for p in model.parameters())
