"""Training checkpoints: evaluate, save and resume."""

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
from curate.storage.records import check_files, file_checksums, read_record, record_text
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.reweighting import ReweightingState

# Settings that may differ in a resumed run: its end, and the layout of its memory.
_FREE = ("steps", "micro_batch_tokens", "gradient_checkpointing", "sharding")


@dataclass(frozen=True)
class Checkpoint:
    """A training run after `step` optimizer steps, for the body of the caller's loop (`curate.training.loop.train`).

    Measures of the proxy get a `LiveCheckpoint` instead, which is made from it.

    model: float32 weights, eval mode; the live model, so only valid until the next iteration of the loop.
    losses: one mean training loss per step so far, nats per completion token, unweighted.
    tokens_seen: tokens trained on, prompts included and padding not; seconds: time spent in steps.
    micro_batch_tokens: most tokens per forward pass, see `TrainConfig`; None = unknown. lowered: whether that is less
    than was configured, because memory ran out; a resumed run then keeps to it.
    reweighting: the reweighter of the run and the weights so far; None if there is none.
    drops_out: whether dropout is active, so that the result depends on the size of micro-batches.
    full_optimizer_state: by parameter name, of a sharded optimizer; on rank 0 only. None = that of `optimizer`.
    """

    step: int
    model: Any
    losses: list[float] = field(repr=False)
    tokens_seen: int
    seconds: float
    optimizer: Any = field(repr=False)
    config: TrainConfig = field(repr=False)
    tokens: Tokens = field(repr=False)
    micro_batch_tokens: int | None = None
    lowered: bool = False
    reweighting: ReweightingState | None = field(default=None, repr=False)
    drops_out: bool = False
    full_optimizer_state: dict[str, dict[str, torch.Tensor]] | None = field(default=None, repr=False)

    def save(self, directory: Path, *, resumable: bool = True, frozen: bool = True) -> None:
        """Write model.safetensors (float32) into an existing folder, for `load_weights`.

        resumable: also optimizer.safetensors, reweighting.safetensors where there is a reweighter and, last,
        trainer.json, for `train(..., resume=directory)`.
        frozen: also weights that are not trained; without them, a resumed run must start from the same ones.
        Only rank 0 calls it; every rank can resume from the folder. Not atomic: see `curate.storage.atomic`.
        """
        excluded = set() if frozen else _frozen(self.model)
        weights = {n: tensor.contiguous() for n, tensor in state_tensors(self.model).items() if n not in excluded}
        save_file(weights, directory / "model.safetensors", {"format": "pt"})
        if not resumable:
            return
        save_file(self._optimizer_tensors(), directory / "optimizer.safetensors")
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

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        """State of the optimizer by "PARAMETER/KEY"."""
        state = self.full_optimizer_state
        if state is None:
            names = _parameter_names(self.optimizer)
            state = {names[index]: values for index, values in self.optimizer.state_dict()["state"].items()}
        tensors = {}
        for name, values in state.items():
            for key, value in values.items():
                if not isinstance(value, torch.Tensor):
                    raise InputError(f"optimizer state {key!r} of {name} is not a tensor; make it one")
                tensors[f"{name}/{key}"] = value.contiguous()
        return tensors

    def _identity(self) -> dict[str, Any]:
        settings = {key: value for key, value in describe(self.config).items() if key not in _FREE}
        settings["horizon_steps"] = self.config.horizon_steps or self.config.steps
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.tokens.ids, self.tokens.supervised, self.tokens.offsets, self.tokens.valid):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return {"config": settings, "data": digest.hexdigest()}


def load_checkpoint(directory: Path, fresh: Checkpoint) -> Checkpoint:
    """Bring `fresh` (step 0 of the same run) to the saved step; weights and optimizer state are loaded in place.

    All ranks call it. Raises InputError if the folder holds no finished checkpoint, or one of another run.
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
                f"{directory} was trained with {key}={saved}, now it is {value}; set it back or start over"
            )
    if record["data"] != own["data"]:
        raise InputError(f"{directory} was trained on other data; pass the same rows or start over")
    if record["step"] > fresh.config.steps:
        raise InputError(f"{directory} is at step {record['step']}, past steps; raise steps or start over")
    load_weights(fresh.model, directory, frozen=record.get("frozen", True))
    _load_optimizer(directory, fresh.optimizer, optimizer)
    reached = {key: record[key] for key in ("step", "losses", "tokens_seen", "seconds")}
    limit = record.get("micro_batch_tokens")
    return replace(fresh, **reached, micro_batch_tokens=limit, lowered=limit is not None)


def save_reweighting(reweighting: ReweightingState, directory: Path) -> None:
    """Write reweighting.safetensors into an existing folder, for `load_reweighting`."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in reweighting.state().items()}
    save_file(state, directory / "reweighting.safetensors", {"reweighter": _identity_of(reweighting.reweighter)})


def load_reweighting(directory: Path, n: int, reweighter: Any) -> dict[str, torch.Tensor] | None:
    """The state of `reweighter` saved by `save_reweighting`, for a run over n rows; None without a reweighter.

    Raises InputError if the saved run had no reweighter, another one, or one if there is none now.
    """
    path = directory / "reweighting.safetensors"
    if path.is_file() == (reweighter is None):
        condition, remedy = ("with", "give it") if path.is_file() else ("without", "leave it out")
        raise InputError(f"{directory} was trained {condition} a reweighter; {remedy}, or start over")
    if reweighter is None:
        return None
    try:
        with safe_open(path, "pt") as file:
            saved = (file.metadata() or {}).get("reweighter")
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not readable ({error}); start over") from error
    if saved != _identity_of(reweighter):
        raise InputError(f"{directory} was trained with another reweighter, or other settings of it; start over")
    if len(state["sums"]) != n:
        raise InputError(f"{directory} was trained on {len(state['sums'])} rows, now there are {n}; start over")
    return dict(state)


def _identity_of(reweighter: Any) -> str:
    """Fingerprint of its parameters, or its class if they cannot be read."""
    try:
        return fingerprint(reweighter)
    except InputError:
        return public_path(type(reweighter))


def _frozen(model: Any) -> set[str]:
    """Names of the weights that are not trained."""
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def load_weights(model: Any, directory: Path, *, frozen: bool = True) -> None:
    """Copy model.safetensors of a saved checkpoint into `model`, in place, on any device.

    frozen: as in `Checkpoint.save`; if False, the model keeps its own frozen weights.
    """
    try:
        saved = load_file(directory / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory} holds no readable model.safetensors ({error})") from error
    excluded = set() if frozen else _frozen(model)
    own = {name: tensor for name, tensor in state_tensors(model).items() if name not in excluded}
    for name in sorted(own.keys() ^ saved.keys()):
        holder = "model" if name in own else "file"
        raise InputError(f"{directory}: weight {name} is in the {holder} only; load the model that was saved")
    for name, tensor in own.items():
        if tensor.shape != saved[name].shape:
            raise InputError(
                f"{directory}: weight {name} has shape {tuple(saved[name].shape)} but the model's has "
                f"{tuple(tensor.shape)}; load the model that was saved"
            )
        tensor.copy_(_sharded_like(saved[name], tensor))


def _parameter_names(optimizer: Any) -> list[str]:
    return [name for group in optimizer.param_groups for name in group["param_names"]]


def _load_optimizer(directory: Path, optimizer: Any, tensors: dict[str, torch.Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    index = {name: position for position, name in enumerate(_parameter_names(optimizer))}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for label, tensor in tensors.items():
        name, key = label.rsplit("/", 1)
        if name not in index:
            raise InputError(f"{directory}: {name} was trained but is frozen now; unfreeze it or start over")
        state.setdefault(index[name], {})[key] = _sharded_like(tensor, parameters[index[name]])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _sharded_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Shard `value`, held by all ranks, like `parameter`; unchanged if it has another shape, such as a step count.

    `set_optimizer_state_dict` cannot be used: it would give state to parameters that never had a gradient.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
