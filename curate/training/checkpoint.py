"""A point in a training run: lent to whoever measures, saved so that the run can go on from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from curate.component import describe, fingerprint, public_path
from curate.errors import InputError
from curate.models.modes import state_tensors
from curate.optimizers import SteppedOptimizer
from curate.storage.records import check_files, file_checksums, read_record, record_text
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.fsdp import place_
from curate.training.reweighting import Reweighting

__all__ = ["Checkpoint", "load_checkpoint", "load_reweighting", "load_weights", "save_reweighting"]

# What may differ between the two halves of a resumed run: where it ends, and how its memory is laid out.
_FREE = ("steps", "micro_batch_tokens", "gradient_checkpointing", "sharding")


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` optimizer steps, lent for the body of the caller's loop.

    model: float32 weights, eval mode; the live model, so only valid until the loop goes on.
    losses: one mean training loss per step so far, nats per completion token, unweighted.
    tokens_seen: tokens trained on, prompts included and padding not; seconds: time spent in steps.
    micro_batch_tokens: most tokens that go through the model at once, see `TrainConfig`; None = not known. lowered:
    whether that is less than was asked for, because memory ran out; a run that goes on then keeps to it.
    reweighting: the reweighter of the run and the weights it gave so far; None where there is none.
    drops_out: whether the training draws at random, so that its result depends on the size of micro-batches.
    """

    step: int
    model: Any
    losses: list[float] = field(repr=False)
    tokens_seen: int
    seconds: float
    optimizer: SteppedOptimizer = field(repr=False)
    config: TrainConfig = field(repr=False)
    tokens: Tokens = field(repr=False)
    micro_batch_tokens: int | None = None
    lowered: bool = False
    reweighting: Reweighting | None = field(default=None, repr=False)
    drops_out: bool = False

    def save(self, directory: Path, *, resumable: bool = True, frozen: bool = True) -> None:
        """Write model.safetensors (float32) into an existing folder, for `load_weights`.

        resumable: also optimizer.safetensors, reweighting.safetensors where there is a reweighter and, last,
        trainer.json, for `train(..., resume=directory)`.
        frozen: also weights that are not trained; without them, whoever resumes must start from the same ones.
        Call it on rank 0 only; every rank can resume from the folder. Not atomic: see `curate.storage.atomic`.
        """
        left_out = set() if frozen else _frozen(self.model)
        weights = {n: tensor.contiguous() for n, tensor in state_tensors(self.model).items() if n not in left_out}
        save_file(weights, directory / "model.safetensors", {"format": "pt"})
        if not resumable:
            return
        save_file(_optimizer_tensors(self.optimizer), directory / "optimizer.safetensors")
        if self.reweighting is not None:
            save_reweighting(self.reweighting, directory)
        record = {
            "step": self.step,
            "losses": self.losses,
            "tokens_seen": self.tokens_seen,
            "seconds": self.seconds,
            "micro_batch_tokens": self.micro_batch_tokens if self.lowered else None,
            "frozen": frozen,
            **self._identity(),
        }
        record["files"] = file_checksums(directory, ["*.safetensors"])
        (directory / "trainer.json").write_text(record_text(record), encoding="utf-8")

    def _identity(self) -> dict[str, Any]:
        described = {key: value for key, value in describe(self.config).items() if key not in _FREE}
        described["horizon_steps"] = self.config.horizon_steps or self.config.steps
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.tokens.ids, self.tokens.supervised, self.tokens.offsets, self.tokens.valid):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return {"config": described, "data": digest.hexdigest()}


def load_checkpoint(directory: Path, fresh: Checkpoint) -> Checkpoint:
    """`fresh` (step 0 of the same run) at the saved step; weights and optimizer state are set in place.

    Raises InputError where the folder holds no finished checkpoint, or one of another run.
    """
    remedy = f"remove {directory}, and training starts afresh"
    record = read_record(directory / "trainer.json", remedy)
    check_files(directory, record, remedy)
    optimizer = load_file(directory / "optimizer.safetensors")
    own = fresh._identity()
    for key, value in own["config"].items():
        saved = record["config"].get(key)
        if json.loads(json.dumps(value)) != saved:
            raise InputError(
                f"{directory} was trained with {key}={saved}, now it is {value}; set it back or start afresh"
            )
    if record["data"] != own["data"]:
        raise InputError(f"{directory} was trained on other data; give the same rows or start afresh")
    if record["step"] > fresh.config.steps:
        raise InputError(f"{directory} is at step {record['step']}, past steps; raise steps or start afresh")
    load_weights(fresh.model, directory, frozen=record.get("frozen", True))
    _load_optimizer(directory, fresh.optimizer, optimizer)
    reached = {key: record[key] for key in ("step", "losses", "tokens_seen", "seconds")}
    limit = record.get("micro_batch_tokens")
    return replace(fresh, **reached, micro_batch_tokens=limit, lowered=limit is not None)


def save_reweighting(reweighting: Reweighting, directory: Path) -> None:
    """Write reweighting.safetensors into an existing folder, for `load_reweighting`."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in reweighting.state().items()}
    save_file(state, directory / "reweighting.safetensors", {"reweighter": _called(reweighting.reweighter)})


def load_reweighting(directory: Path, n: int, reweighter: Any) -> dict[str, torch.Tensor] | None:
    """The state of `reweighter` from a folder that `save_reweighting` wrote to, for a run over n rows; None for None.

    Raises InputError where the run had none and one is given, the other way round, or another one.
    """
    path = directory / "reweighting.safetensors"
    if path.is_file() == (reweighter is None):
        had, remedy = ("with", "give it") if path.is_file() else ("without", "leave it out")
        raise InputError(f"{directory} was trained {had} a reweighter; {remedy}, or start afresh")
    if reweighter is None:
        return None
    try:
        with safe_open(path, "pt") as file:
            before = (file.metadata() or {}).get("reweighter")
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not readable ({error}); start afresh") from error
    if before != _called(reweighter):
        raise InputError(f"{directory} was trained with another reweighter, or other settings of it; start afresh")
    if len(state["sums"]) != n:
        raise InputError(f"{directory} was trained on {len(state['sums'])} rows, now there are {n}; start afresh")
    return dict(state)


def _called(reweighter: Any) -> str:
    """What tells a reweighter from another: its parameters, or its class where they cannot be read."""
    try:
        return fingerprint(reweighter)
    except InputError:
        return public_path(type(reweighter))


def _frozen(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def load_weights(model: Any, directory: Path, *, frozen: bool = True) -> None:
    """Copy model.safetensors of a saved checkpoint into `model`, in place, on whatever device it is.

    frozen: as it was saved with; without, the model keeps its own frozen weights.
    """
    try:
        saved = load_file(directory / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory} holds no readable model.safetensors ({error})") from error
    kept = set() if frozen else _frozen(model)
    own = {name: tensor for name, tensor in state_tensors(model).items() if name not in kept}
    for name in sorted(own.keys() ^ saved.keys()):
        where = "model" if name in own else "file"
        raise InputError(f"{directory}: weight {name} is in the {where} only; load the model that was saved")
    for name, tensor in own.items():
        if tensor.shape != saved[name].shape:
            raise InputError(
                f"{directory}: weight {name} has shape {tuple(saved[name].shape)} but the model's has "
                f"{tuple(tensor.shape)}; load the model that was saved"
            )
        place_(tensor, saved[name])


def _names(optimizer: SteppedOptimizer) -> list[str]:
    return [name for group in optimizer.param_groups for name in group["param_names"]]


def _optimizer_tensors(optimizer: SteppedOptimizer) -> dict[str, torch.Tensor]:
    names = _names(optimizer)
    tensors = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if not isinstance(value, torch.Tensor):
                raise InputError(f"optimizer state {key!r} of {names[index]} is no tensor; make it one")
            tensors[f"{names[index]}/{key}"] = value.contiguous()
    return tensors


def _load_optimizer(directory: Path, optimizer: SteppedOptimizer, tensors: dict[str, torch.Tensor]) -> None:
    index = {name: position for position, name in enumerate(_names(optimizer))}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for label, tensor in tensors.items():
        name, key = label.rsplit("/", 1)
        if name not in index:
            raise InputError(f"{directory}: {name} was trained but is frozen now; unfreeze it or start afresh")
        state.setdefault(index[name], {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
