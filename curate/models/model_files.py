"""Check that files hold a complete model: transformers initializes missing weights at random and continues."""

from __future__ import annotations

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from curate.errors import DataWarning, InputError, reason_of
from curate.storage.records import peek

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_AGAIN = "fetch or save the model again"
TOKENIZER_FILES = (
    "copy its files (tokenizer.json and tokenizer_config.json, or tokenizer.model, or vocab.json and merges.txt) from "
    "the model it was made from"
)
_OBJECTS = ("config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
# Bytes of one file: enough for 200,000 tensors. A mixture of 384 experts has that many in all its files;
# safetensors reads four times as much, which takes a minute and gigabytes of Python objects.
_LONGEST_HEADER = 25_000_000
# Files that determine what a local model computes, including Python files, which `trust_remote_code` runs.
SUFFIXES = frozenset([".safetensors", ".json", ".model", ".txt", ".jinja", ".tiktoken", ".bpe", ".py"])
_LFS = b"version https://git-lfs"
_LAYERS = re.compile(r"(layers?|blocks?|block_count|depth)$")
_FEW_LAYERS = 1000  # built instantly; a window or a router may count in layers that a small model lacks
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(.*weight)")
_WHOLE_NUMBERS = ("I", "U", "BOOL")  # prefixes of integer types in safetensors
_SCALE = re.compile(r"(norm\w*|ln_\w+)\.weight$")


def check_files(name: str, folder: Path) -> dict[str, str]:
    """Type of every tensor in a model folder, by name, from the headers of its safetensors files only.

    Raises InputError that names the first missing weight: because its file is missing,
    truncated or something else, or because the other experts of its layer have one.
    """
    types: dict[str, str] = {}
    for file, weights in weight_files(name, folder).items():
        in_file = tensor_types(name, folder / file, weights)
        missing = next((weight for weight in weights if weight not in in_file), None)
        if missing:
            raise InputError(f"model {name!r} lacks the weight {missing}, which {_INDEX} says is in {file}; {_AGAIN}")
        types |= in_file
    check_layers(name, _layer_counts(folder / "config.json"), len(types))
    _check_experts(name, types)
    return types


def weight_files(name: str, folder: Path) -> dict[str, list[str]]:
    """The weight files of a folder, each with the weights that an index says it holds.

    The choice follows transformers, which ignores an index if one file holds all weights. Raises
    InputError if there is neither, or the index cannot be read.
    """
    if (folder / _WEIGHTS).exists():
        return {_WEIGHTS: []}
    if (folder / _INDEX).is_file():
        return _indexed(name, folder / _INDEX)
    shard_names = [path.name for path in sorted(folder.glob("*.safetensors"))]
    what = f" but has {shard_names[0]}, which may be another model's" if shard_names else ""
    raise InputError(f"model {name!r} holds no weights: it has no {_WEIGHTS}{what}; {_AGAIN}")


def check_layers(name: str, counts: Mapping[str, Any], tensors: int) -> None:
    """Raise InputError for a number of layers, named by its key, that the model's tensors cannot fill.

    Every layer has at least one tensor. transformers builds what a configuration asks for before it opens a file.
    """
    for key, count in counts.items():
        if isinstance(count, int | float) and not isinstance(count, bool) and count > max(tensors, _FEW_LAYERS):
            raise InputError(
                f"model {name!r}: config.json asks for {key} = {count:,}, but its files hold {tensors:,} tensors; "
                f"put back the config.json that belongs to it, or {_AGAIN}"
            )


def _layer_counts(path: Path) -> dict[str, Any]:
    """Values of a configuration, or part of it, under keys that count layers; empty if it is unreadable."""
    config = peek(path)
    parts = [config, *config.values()]
    return {
        key: value for part in parts if isinstance(part, dict) for key, value in part.items() if _LAYERS.search(key)
    }


def _indexed(name: str, index: Path) -> dict[str, list[str]]:
    """The weights that each file should hold, by the index."""
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        expected = defaultdict(list)
        for weight, file in listed.items():
            if Path(file).name != file:
                raise ValueError(f"it names {file!r}, which is not in the folder")
            expected[file].append(weight)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"model {name!r}: {index.name} is not readable ({reason_of(error)}); {_AGAIN}") from error
    return dict(expected)


def tensor_types(name: str, path: Path, weights: Collection[str] = ()) -> dict[str, str]:
    """Type of every tensor in a safetensors file, by name. weights: names it should hold, for the error."""
    first = next(iter(weights), None)
    lacks = f"model {name!r} lacks the weight {first}" if first else f"model {name!r} lacks its weights"
    if not path.is_file():
        raise InputError(f"{lacks}: {path.name} is {'a folder' if path.is_dir() else 'missing'}; {_AGAIN}")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if (head + file.read(len(_LFS) - 8)).startswith(_LFS):
            raise InputError(f"{lacks}: {path.name} is a Git LFS pointer to them; fetch them with `git lfs pull`")
        if _LONGEST_HEADER < length <= size - 8:
            raise InputError(
                f"{lacks}: {path.name} has a header of {length:,} bytes, more than any model has; save it in several "
                "files, or fetch it again"
            )
        file.seek(8)
        text = file.read(length) if 8 + length <= size else b""
    try:
        tensors = {key: entry for key, entry in json.loads(text).items() if key != "__metadata__"}
        ends = {key: 8 + length + int(entry["data_offsets"][1]) for key, entry in tensors.items()}
        types = {key: str(entry["dtype"]) for key, entry in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(f"{lacks}: {path.name} is empty, cut short or no safetensors file; {_AGAIN}") from error
    beyond = next((key for key, end in ends.items() if end > size), None)
    if beyond:
        raise InputError(f"model {name!r} lacks the weight {beyond}: {path.name} is cut short before its end; {_AGAIN}")
    return types


def adapter_types(name: str, path: Path) -> dict[str, str]:
    """`tensor_types` of an adapter. Raises InputError for integer factors, which no adapter has."""
    types = tensor_types(name, path)
    for key, kind in types.items():
        if kind.startswith(_WHOLE_NUMBERS):
            raise InputError(f"adapter {name}: the weight {key} holds integers ({kind}); fetch or write it again")
    return types


def _check_experts(name: str, tensors: Iterable[str]) -> None:
    """Check that all experts of a layer have the same weights; transformers only says that it cannot stack them."""
    kinds: dict[str, set[str]] = defaultdict(set)
    experts: dict[str, set[int]] = defaultdict(set)
    tensor_names = set(tensors)
    for tensor in tensor_names:
        match = _EXPERT.fullmatch(tensor)
        if match:
            kinds[match[1]].add(match[3])
            experts[match[1]].add(int(match[2]))
    for layer in sorted(kinds):
        for number in range(max(experts[layer]) + 1):
            for kind in sorted(kinds[layer]):
                if f"{layer}.{number}.{kind}" not in tensor_names:
                    raise InputError(f"model {name!r} lacks the weight {layer}.{number}.{kind}; {_AGAIN}")


def check_weights(name: str, model: Any, info: Mapping[str, Any], types: Mapping[str, str]) -> None:
    """Raise InputError for the first weight of a loaded model that did not come from its files.

    info: from `from_pretrained` with `output_loading_info`. types: result of `check_files`, if it ran.
    Tied weights need be there once. A buffer may be absent if the model computes it (a table of angles), not if the
    model has a placeholder for it (one number everywhere), as for the bias of a router that was learned.
    """
    shapes = {key: (tuple(actual), tuple(expected)) for key, actual, expected in info["mismatched_keys"]}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    missing = [
        key
        for key, tensor in model.state_dict(keep_vars=True).items()
        if key in info["missing_keys"] and (key in parameters or _placeholder(tensor))
    ]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise InputError(
            f"model {name!r} lacks the weight {missing[0]}{more}, which its files should hold: it would be random; "
            f"{_AGAIN}"
        )
    for key in model.state_dict():
        if key in shapes:
            actual, expected = shapes[key]
            raise InputError(
                f"model {name!r}: the weight {key} has shape {actual}, but its config.json asks for {expected}; "
                f"put back the config.json that belongs to it, or {_AGAIN}"
            )
    _check_types(name, model, parameters, types)
    unused = sorted(info["unexpected_keys"])
    if unused:
        warnings.warn(
            f"model {name!r}: {len(unused):,} of the tensors in its files, such as {unused[0]}, have no place in the "
            "model that its config.json describes and are not used; see that this config.json belongs to them",
            DataWarning,
            stacklevel=3,
        )


def _check_types(name: str, model: Any, parameters: Mapping[str, Any], types: Mapping[str, str]) -> None:
    """Raise InputError for integer weights without settings for how to read them."""
    prefix = f"{model.base_model_prefix}."
    packed = getattr(model.config, "quantization_config", None) is not None
    for key, parameter in parameters.items():
        kind = types.get(key, types.get(key.removeprefix(prefix), ""))
        if parameter.is_floating_point() and kind.startswith(_WHOLE_NUMBERS) and not packed:
            raise InputError(
                f"model {name!r}: the weight {key} holds integers ({kind}) and config.json names no quantization; "
                f"{_AGAIN} in a floating-point type"
            )


def _placeholder(buffer: Any) -> bool:
    return bool(buffer.ndim and buffer.numel() and (buffer == buffer.flatten()[0]).all())


def check_tokenizer(name: str, tokenizer: Any) -> None:
    """Raise InputError for a tokenizer that only has special tokens, which transformers makes if files are missing."""
    marks = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}
    if not set(tokenizer.get_vocab()) - marks:
        raise InputError(f"model {name!r} has no tokenizer: no file of it holds a embeddings; {TOKENIZER_FILES}")


def check_vocabulary(name: str, model: Any, tokenizer: Any, ids: Any) -> None:
    """Raise InputError if the tokenizer produces ids that the model does not have. ids: (n,) those of all rows."""
    embeddings, highest = model.get_input_embeddings().weight.shape[0], int(ids.max(initial=0))
    if highest >= embeddings:
        raise InputError(
            f"the tokenizer of {name} writes token {highest} ({tokenizer.convert_ids_to_tokens(highest)!r}), but the "
            f"model has embeddings for {embeddings} only; call model.resize_token_embeddings(len(tokenizer)) and save "
            "both, or use the model's own tokenizer"
        )


def unreadable(folder: Path) -> str | None:
    """Name of a file of a model folder that should hold one JSON object and does not; None if there is none."""
    for path in sorted(folder.glob("*.json")):
        try:
            is_readable = isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
        except (OSError, ValueError, RecursionError):
            is_readable = False
        if not is_readable and (path.stem.startswith("tokenizer") or path.name in _OBJECTS):
            return path.name
    return None


def has_initial_weights(folder: Path) -> bool:
    """Whether all norm scales in a folder's safetensors files have their initial values: all 1, or all 0.

    One optimizer update changes them, so a model with initial values was not trained (or only its low-rank factors
    were). False if this is unknown: no such files, or no norms with scales in them.
    """
    from safetensors import SafetensorError, safe_open

    redrawn = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), "pt") as file:
                for name in file.keys():  # noqa: SIM118 - the file is not a mapping
                    if not _SCALE.search(name) or len(file.get_slice(name).get_shape()) != 1:
                        continue
                    scale = file.get_tensor(name)
                    if not bool((scale == scale[0]).all()) or float(scale[0]) not in (0.0, 1.0):
                        return False
                    redrawn += 1
        except (SafetensorError, OSError):  # loading the model reports what is wrong with it
            return False
    return redrawn > 0
