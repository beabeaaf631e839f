"""Tensors of a model on disk, with adapters, read and written in slices: a model need not fit in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import InputError, reason_of
from curate.models.model_files import adapter_types, weight_files

if TYPE_CHECKING:
    import torch


# safetensors' names of the floating types that are extrapolated, and torch's.
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
INDEX = "model.safetensors.index.json"
_SLICE_ELEMENTS = 2**21  # 8 MiB in float32; a dozen such slices are in memory at a time
_PREFIX = "base_model.model."  # of every tensor in peft's files
# Settings that go beyond low-rank factors of linear layers; empty or false if unused.
_UNSUPPORTED = (
    "target_parameters",
    "use_dora",
    "alpha_pattern",
    "rank_pattern",
    "modules_to_save",
    "layer_replication",
    "lora_bias",
)


@dataclass(frozen=True)
class Entry:
    """Location of a tensor: name of its file; dtype as safetensors calls it."""

    file: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """The safetensors files of a model folder, with the factors of a LoRA adapter added in float32: W + scale B A.

    title: how messages call the model. entries: of all tensors by name, in the files' order.
    factors: A (rank, in) and scale B (out, rank) by W's name, if any. transposed: whether W is (in, out).
    targets: modules that have factors, by the ends of their names; () = the adapter does not list them.
    """

    title: str
    folder: Path
    entries: dict[str, Entry] = field(repr=False)
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, repr=False)
    transposed: bool = False
    targets: tuple[str, ...] = ()

    def read(self, name: str, low: int, high: int) -> torch.Tensor:
        """Rows low to high of a tensor, all of one without dimensions: float32 if an adapter changes it, else in the
        file's dtype.
        """
        from safetensors import safe_open

        entry = self.entries[name]
        with safe_open(str(self.folder / entry.file), "pt") as file:
            stored = file.get_slice(name)[low:high] if entry.shape else file.get_tensor(name)
        if name not in self.factors:
            return stored
        A, B = self.factors[name]
        return stored.float() + (A[:, low:high].T @ B.T if self.transposed else B[low:high] @ A)


def open_weights(folder: Path, title: str) -> Weights:
    """Read the headers of a model's files. Raises InputError if files are missing, not readable or quantized."""
    from safetensors import SafetensorError, safe_open

    if "quantization_config" in read_json(folder / "config.json"):
        raise InputError(f"{title} is quantized, and its numbers cannot be extrapolated; give the full weights")
    entries: dict[str, Entry] = {}
    for name in weight_files(title, folder):
        try:
            with safe_open(str(folder / name), "pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a mapping
                    header = file.get_slice(key)
                    entries[key] = Entry(name, header.get_dtype(), tuple(header.get_shape()))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{title}: {name} is not readable ({reason_of(error)}); fetch or write it again"
            ) from error
    return Weights(title, folder, entries)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model. Raises InputError if it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable ({error}); fetch or write it again") from error
    return value if isinstance(value, dict) else {}


def with_adapter(base: Weights, folder: Path, title: str) -> Weights:
    """`base` with the adapter in peft's files. Raises InputError for an adapter that is more than low-rank factors."""
    from safetensors.torch import load_file

    config = read_json(folder / "adapter_config.json")
    unsupported = [key for key in _UNSUPPORTED if config.get(key)]
    if config.get("peft_type") != "LORA" or unsupported:
        problem = f"has {unsupported[0]}" if unsupported else f"is of type {config.get('peft_type')}"
        raise InputError(f"{title}: the adapter {problem}; merge it into its base (peft's merge_and_unload) first")
    rank = int(config["r"])
    scale = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    adapter_types(title, folder / "adapter_model.safetensors")  # raises InputError for a damaged file
    tensors = load_file(folder / "adapter_model.safetensors")
    for key in tensors:
        if ".lora_B." in key and key.replace(".lora_B.", ".lora_A.") not in tensors:
            raise InputError(f"{title}: the adapter lacks the first factor of {key!r}; write it again")
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for key, A in tensors.items():
        module, dot, end = key.removeprefix(_PREFIX).partition(".lora_")
        if not dot or end not in ("A.weight", "B.weight"):
            raise InputError(f"{title}: the adapter has {key!r}, no factor of a linear layer; merge it first")
        if end == "A.weight":
            name = counterpart(f"{module}.weight", base.entries)
            if name is None:
                raise InputError(f"{title}: the adapter changes {module!r}, which {base.title} lacks; name its base")
            B = tensors.get(key.replace(".lora_A.", ".lora_B."))
            if B is None:
                raise InputError(f"{title}: the adapter lacks the second factor of {module!r}; write it again")
            factors[name] = (A.float(), scale * B.float())
    if not factors:
        raise InputError(f"{title}: the adapter has no factors; write it again")
    transposed = bool(config.get("fan_in_fan_out"))
    return replace(base, title=title, factors=factors, transposed=transposed, targets=_targets(config))


def _targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Modules in peft's settings, if they are listed without reference to layer numbers."""
    modules = config.get("target_modules")
    partial = config.get("layers_to_transform") is not None or config.get("exclude_modules")
    return tuple(map(str, modules)) if isinstance(modules, list) and not partial else ()


def counterpart(name: str, names: Iterable[str]) -> str | None:
    """The tensor of the same name, except for the prefix of the inner model, which some files omit."""
    names = names if isinstance(names, Mapping | set) else set(names)
    if name in names:
        return name
    shorter = name.partition(".")[2]
    if shorter in names:
        return shorter
    prefixes = sorted({tensor_name.partition(".")[0] for tensor_name in names})
    return next((f"{prefix}.{name}" for prefix in prefixes if f"{prefix}.{name}" in names), None)


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype for safetensors' name of a floating type."""
    import torch

    dtype: torch.dtype = getattr(torch, FLOATS[name])
    return dtype


def slices(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of rows (low, high) that fit in memory."""
    rows = shape[0] if shape else 1
    step = max(1, _SLICE_ELEMENTS // max(1, math.prod(shape[1:])))
    yield from ((low, min(low + step, rows)) for low in range(0, rows, step))


def write_file(path: Path, entries: Mapping[str, Entry], parts: Mapping[str, Iterator[torch.Tensor]]) -> int:
    """Write a safetensors file slice by slice; returns the bytes of its tensors.

    parts: for each tensor, its slices in order and in the entry's dtype.
    """
    import torch

    # Wide types first, as the format requires, so that every tensor is aligned.
    order = sorted(entries, key=lambda name: (-_width(entries[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        entry = entries[name]
        start, end = end, end + math.prod(entry.shape) * _width(entry.dtype)
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for part in parts[name]:
                file.write(part.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        size = file.tell() - 8 - len(text)
    if size != end:
        raise RuntimeError(f"{path.name}: {size} bytes written where the header says {end}")
    return end


def _width(dtype: str) -> int:
    """Bytes per number."""
    digits = "".join(filter(str.isdigit, dtype.partition("_")[0]))
    return max(1, int(digits) // 8) if digits else 1
