"""Muon: orthogonalized momentum for hidden matrices, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from curate.component import Component
from curate.errors import InputError
from curate.optimizers.adamw import AdamW, trainable
from curate.optimizers.protocols import refuse_sharded

if TYPE_CHECKING:
    import torch


_FINE_TUNING_RATE = 2e-4
SCRATCH_RATE = 0.02


class Muon(Component):
    """Muon (Jordan et al., 2024) for hidden matrices, AdamW for all other parameters, in one optimizer.

    m <- momentum m + (1 - momentum) g; u = (1 - momentum) g + momentum m with nesterov, else m;
    W <- W (1 - lr decay) - lr a O(u), O the Newton-Schulz iteration of torch.optim.Muon, `ns_steps` times in
    bfloat16, which brings all singular values near 1 (0.5 to 1.5). lr follows the same schedule as AdamW's.

    adjust: "original": a = sqrt(max(1, rows / columns)), rows being the outputs of the layer. The learning rate is in
        spectral units: each update has that spectral norm times a. "match_rms_adamw": a = 0.2 sqrt(max(rows, columns)),
        which gives updates the size of AdamW's, so its learning rate fits.
    learning_rate: peak for the hidden matrices; None = 2e-4 for "original", that of the training configuration for
        "match_rms_adamw". An orthogonal update of rate 2e-4 changes the weights of a 1000-column matrix by 6e-6 (RMS),
        what AdamW does at the 2e-5 to 3e-5 that is usual in fine-tuning. Training from scratch needs about
        0.02, which `curate.finetuning` uses there.
    weight_decay: of the hidden matrices, per unit of lr; their lr is larger than AdamW's, so the same number decays
        faster.
    adamw: for the rest; where unset, as in the training configuration.

    Which matrices: weights of linear layers (also of GPT-2's Conv1D, whose transposed shape is allowed for) inside the
    model's lists of layers. LoRA factors there are such weights and go to Muon, which moves all directions of their
    rank equally. Never: embeddings, the LM head, tied or not, norms, biases, and tensors of more dimensions such as
    fused experts.

    Departures from the reference code: the learning rate (there 0.02); what `adamw` trains has the usual betas and eps
    of AdamW (there (0.9, 0.95) and 1e-10); a parameter without a gradient stays as it is (there its gradient counts as
    0, and it still decays).

    Ranks hold the same summed gradients and so compute the same update. Sharded parameters (FSDP2) are refused: a
    matrix has to be whole to be orthogonalized.
    """

    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    ns_steps: int = Field(default=5, ge=1, lt=100)
    adjust: Literal["original", "match_rms_adamw"] = "original"
    adamw: AdamW = Field(default_factory=AdamW)

    def peak(self, learning_rate: float) -> float:
        """Peak learning rate of the hidden matrices, given that of the training configuration."""
        if self.learning_rate is not None:
            return self.learning_rate
        return _FINE_TUNING_RATE if self.adjust == "original" else learning_rate

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> MuonWithAdamW:
        """The optimizer of all trainable parameters.

        Raises InputError if no hidden matrix is trainable, or where one is sharded.
        """
        import torch

        refuse_sharded(model, "Muon")  # a matrix has to be whole to be orthogonalized
        parameters, hidden = trainable(model), hidden_matrices(model)
        if not hidden:
            raise InputError("Muon found no trainable matrix in the layers of the model; use AdamW")
        peak = self.peak(learning_rate)
        scaled: dict[float, list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in parameters:
            if parameter in hidden:
                scale = _transposed_scale(parameter) if hidden[parameter] and self.adjust == "original" else 1.0
                scaled.setdefault(scale, []).append((name, parameter))
        groups = [
            # The decay acts per unit of lr, so a scaled lr divides the decay by its scale.
            {"params": members, "lr": peak * s, "initial_lr": peak * s, "weight_decay": self.weight_decay / s}
            for s, members in scaled.items()
        ]
        parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                groups,
                lr=peak,
                momentum=self.momentum,
                nesterov=self.nesterov,
                ns_steps=self.ns_steps,
                adjust_lr_fn=self.adjust,
            )
        ]
        rest = [(name, p) for name, p in parameters if p not in hidden]
        if rest:
            parts.append(self.adamw.of(rest, learning_rate=learning_rate, weight_decay=weight_decay))
        return MuonWithAdamW(parts)


class MuonWithAdamW:
    """Built by `Muon`: several optimizers of different parameters, stepped, saved and loaded as one.

    Positions of parameters in the state are counted across the groups of all optimizers.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        self.param_groups: list[dict[str, Any]] = [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Mapping[torch.Tensor, Mapping[str, Any]]:
        """State by parameter, for those that have been updated."""
        return {parameter: state for part in self.parts for parameter, state in part.state.items()}

    def step(self, closure: Callable[[], float]) -> float:
        """Update all parameters from one gradient; returns the closure's loss."""
        loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for start, part in self._starts():
            own = part.state_dict()
            state |= {start + position: values for position, values in own["state"].items()}
            groups += [{**group, "params": [start + i for i in group["params"]]} for group in own["param_groups"]]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        groups = iter(state_dict["param_groups"])
        for start, part in self._starts():
            count = sum(len(group["params"]) for group in part.param_groups)
            own = [next(groups) for _ in part.param_groups]
            inside = {p - start: values for p, values in state_dict["state"].items() if start <= p < start + count}
            shifted = [{**group, "params": [i - start for i in group["params"]]} for group in own]
            part.load_state_dict({"state": inside, "param_groups": shifted})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def _starts(self) -> Iterator[tuple[int, torch.optim.Optimizer]]:
        """Each inner optimizer with the position of its first parameter in the joint state."""
        start = 0
        for part in self.parts:
            yield start, part
            start += sum(len(group["params"]) for group in part.param_groups)


def hidden_matrices(model: torch.nn.Module) -> dict[torch.nn.Parameter, bool]:
    """Trainable matrices of the model's layers, and whether each is stored transposed (inputs, outputs).

    A layer is a member of a list of modules, as the layers of every decoder of transformers are; that excludes the head
    and projections next to the embeddings.
    """
    import torch

    embedding = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    matrices: dict[torch.nn.Parameter, bool] = {}
    for layers in model.modules():
        if not isinstance(layers, torch.nn.ModuleList):
            continue
        for module in layers.modules():
            transposed = type(module).__name__ == "Conv1D"
            if not transposed and not isinstance(module, torch.nn.Linear):
                continue
            weight: Any = module.weight
            if weight.requires_grad and weight.ndim == 2 and weight not in embedding:
                matrices[weight] = transposed
    return matrices


def _transposed_scale(weight: torch.Tensor) -> float:
    """Factor from sqrt(max(1, rows / columns)) of a matrix stored (inputs, outputs) to that of its transpose."""
    inputs, outputs = weight.shape
    return math.sqrt(max(1.0, outputs / inputs) / max(1.0, inputs / outputs))
