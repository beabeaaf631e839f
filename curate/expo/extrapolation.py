"""Extrapolated models, theta_1 + alpha (theta_1 - theta_0), computed in slices from disk to disk."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curate.component import fingerprint
from curate.console.progress import Progress, Stage
from curate.errors import InputError
from curate.expo.sources import Models, open_models
from curate.expo.weights import FLOATS, INDEX, Entry, slices, torch_dtype, write_file
from curate.models.trained_template import KEY
from curate.storage.atomic import publishing
from curate.storage.places import check_place
from curate.storage.records import peek, read_record, record_text, versions

if TYPE_CHECKING:
    import torch


Dtype = Literal["float32", "bfloat16", "float16"]

RECORD = "expo.json"
# Files beside the weights that belong to a model; README.md describes another one.
_SUFFIXES = frozenset([".json", ".jinja", ".txt", ".model", ".tiktoken", ".bpe", ".py"])
_NOT_COPIED = frozenset([INDEX, RECORD, "adapter_config.json", "run.json", "trainer_state.json", "requirements.txt"])
_LEGAL = ("LICENSE", "NOTICE")


def extrapolate(
    tuned: str | Path,
    alpha: float,
    out: Path,
    *,
    base: str | Path | None = None,
    revision: str | None = None,
    base_revision: str | None = None,
    dtype: Dtype | None = None,
    trust_remote_code: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the model folder `out`, extrapolated by `alpha` from `base` past `tuned`; returns its expo.json.

    tuned, base, revision, base_revision: see `curate.expo.sources.open_models`; for a LoRA run this scales the change
        that the adapter makes.
    alpha: 0.3 to 0.5 often works for finished models; 0 gives `tuned` and -1 `base` bit for bit (in the dtype that
        is saved), and what is between them interpolates.
    dtype: of the saved weights; None = that of each tensor of `tuned`, and float32 where that is an adapter.
    Arithmetic is float32 (float64 for tensors of that type), over parameters and buffers (the reference code: bfloat16,
    over parameters alone); integer buffers are those of `tuned`. Raises InputError for models that do not fit, numbers
    that overflow, or a folder of something else; ExternalError if the disk is full.
    """
    models = open_models(
        tuned, base, revision=revision, base_revision=base_revision, trust_remote_code=trust_remote_code
    )
    return write_model(models, alpha, out, dtype=dtype, fresh=fresh, progress=progress)


def check_alpha(alpha: float) -> float:
    """Raise InputError for an alpha that leads away from both models."""
    if not math.isfinite(alpha) or alpha < -1:
        raise InputError(f"alpha = {alpha:g}: give a number from -1 (the base) through 0 (the tuned model) upwards")
    return float(alpha)


def write_model(
    models: Models,
    alpha: float,
    out: Path,
    *,
    dtype: Dtype | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Like `extrapolate`, for models that are already open."""
    alpha = check_alpha(alpha)
    if dtype is None and models.tuned.factors:
        dtype = "float32"  # an adapter's change is often smaller than the spacing of bfloat16 numbers
    inputs = fingerprint(["expo", 1, alpha, dtype, list(models.identities)])
    existing = _existing(out, inputs, models, fresh=fresh)
    if existing is not None:
        return existing
    totals = _Totals()

    with publishing(out) as folder:
        _copy_files(models, folder, dtype)
        with (progress or Progress()).stage(f"alpha {alpha:g}", len(models.tuned.entries), "tensors") as stage:
            _write_weights(models, alpha, folder, dtype, totals, stage)
        record = _record(models, alpha, dtype, totals, inputs)
        (folder / RECORD).write_text(record_text(record), encoding="utf-8")
    return _read(out)


def _existing(out: Path, inputs: str, models: Models, *, fresh: bool) -> dict[str, Any] | None:
    """The expo.json of a folder that holds this result, None for an empty folder. InputError for any other."""
    check_place(out)
    if not out.exists() or (out.is_dir() and all(".partial-" in path.name for path in out.iterdir())):
        return None
    inside = any(folder.resolve() == out.resolve() for folder in (*models.folders, models.base.folder))
    if inside or peek(out / RECORD).get("kind") != "expo":
        raise InputError(f"--out {out} holds something else; name a new or empty folder")
    if not fresh:
        record = _read(out)
        if record.get("inputs") == inputs:
            return record
        raise InputError(f"--out {out} holds another extrapolation; name another folder, or pass --fresh")
    return None


def _read(out: Path) -> dict[str, Any]:
    return read_record(out / RECORD, "pass --fresh to rewrite the model", "expo")


# -- weights ----------------------------------------------------------------------------------------------------------


@dataclass
class _Totals:
    """Sums of squares of theta_1 and of theta_1 - theta_0, and numbers extrapolated."""

    tuned: float = 0.0
    change: float = 0.0
    numbers: int = 0


def _write_weights(
    models: Models, alpha: float, folder: Path, dtype: Dtype | None, totals: _Totals, stage: Stage
) -> None:
    """Write files with the names of the tuned model's."""
    saved = next((code for code, name in FLOATS.items() if name == dtype), None)
    files: dict[str, dict[str, Entry]] = {}
    for name, entry in models.tuned.entries.items():
        converted = replace(entry, dtype=saved) if saved and entry.dtype in FLOATS else entry
        files.setdefault(entry.file, {})[name] = converted
    size = 0
    for file, entries in files.items():
        parts = {name: _parts(models, name, alpha, entry, totals, stage) for name, entry in entries.items()}
        size += write_file(folder / file, entries, parts)
    if list(files) != ["model.safetensors"]:
        weight_map = {name: entry.file for name, entry in models.tuned.entries.items()}
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _parts(
    models: Models, name: str, alpha: float, entry: Entry, totals: _Totals, stage: Stage
) -> Iterator[torch.Tensor]:
    """The slices of one tensor of the result."""
    for low, high in slices(entry.shape):
        tuned = models.tuned.read(name, low, high)
        if name not in models.pairs:
            yield tuned
            continue
        base = models.base.read(models.pairs[name], low, high)
        yield _extrapolated(tuned, base, alpha, entry.dtype, f"{name!r} of {models.tuned.title}", totals)
    stage.advance(1)


def _extrapolated(
    tuned: torch.Tensor, base: torch.Tensor, alpha: float, dtype: str, title: str, totals: _Totals
) -> torch.Tensor:
    """One slice in the result's dtype. Values unchanged by training are copied bit for bit, -inf of a mask too."""
    import torch

    wide = torch.float64 if tuned.dtype == torch.float64 else torch.float32
    tuned, base = tuned.to(wide), base.to(wide)
    same = tuned == base
    change = torch.where(same, torch.zeros((), dtype=wide), tuned - base)  # (shape of the slice)
    # Unchanged numbers are copied: -0.0 + 0.0 would lose its sign, and tuned - (tuned - base) is not exactly base.
    ends = {0.0: tuned, -1.0: base}
    result = ends[alpha] if alpha in ends else torch.where(same, tuned, tuned + alpha * change)
    result = result.to(torch_dtype(dtype))
    if not bool((torch.isfinite(result) | (same & torch.isinf(tuned))).all()):
        broken = not bool((torch.isfinite(tuned) | same).all() and torch.isfinite(base[~same]).all())
        remedy = "it is not finite in the models themselves; check them" if broken else "lower alpha, or save float32"
        raise InputError(f"tensor {title} at alpha = {alpha:g} is not finite in {FLOATS[dtype]}; {remedy}")
    finite = torch.where(torch.isfinite(tuned), tuned, torch.zeros((), dtype=wide))
    totals.tuned += float(torch.linalg.vector_norm(finite, dtype=torch.float64)) ** 2
    totals.change += float(torch.linalg.vector_norm(change, dtype=torch.float64)) ** 2
    totals.numbers += tuned.numel()
    return result


# -- files beside the weights ------------------------------------------------------------------------------------------


def _copy_files(models: Models, folder: Path, dtype: Dtype | None) -> None:
    for source in models.folders:
        for path in sorted(source.iterdir()):
            is_copied = path.suffix in _SUFFIXES or path.name.startswith(_LEGAL)
            if path.is_file() and is_copied and path.name not in _NOT_COPIED:
                shutil.copyfile(path, folder / path.name)
            elif path.is_dir() and path.name == "additional_chat_templates":
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
    tokenizer = folder / "tokenizer_config.json"
    if models.template is not None and tokenizer.is_file():
        config = json.loads(tokenizer.read_text(encoding="utf-8"))
        tokenizer.write_text(json.dumps({**config, KEY: models.template}, indent=2) + "\n", encoding="utf-8")
    if dtype is not None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n", encoding="utf-8")


def _record(models: Models, alpha: float, dtype: Dtype | None, totals: _Totals, inputs: str) -> dict[str, Any]:
    return {
        "kind": "expo",
        "inputs": inputs,
        "alpha": alpha,
        "formula": "tuned + alpha (tuned - base), in float32",
        "tuned": {"name": models.tuned.title, "identity": models.identities[0]},
        "base": {"name": models.base.title, "identity": models.identities[1]},
        "dtype": dtype,
        "tensors": {"extrapolated": len(models.pairs), "copied": len(models.tuned.entries) - len(models.pairs)},
        "numbers": totals.numbers,
        "norm_tuned": math.sqrt(totals.tuned),
        "norm_change": math.sqrt(totals.change),
        "versions": versions(["curate-lm", "torch", "safetensors"]),
    }
