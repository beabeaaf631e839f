"""Protocol of optimizers, and of the closure that they are stepped with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from curate.errors import InputError

if TYPE_CHECKING:
    import torch


class Optimizer(Protocol):
    """An optimizer's parameters; `build` makes the object that updates weights.

    That object is any `torch.optim.Optimizer`, or one that makes more use of its closure. It has

    param_groups: a list of dicts. Each has `params`, `initial_lr`, its peak learning rate, and `param_names`, the names
        of its parameters; the loop sets `lr` before each step.
    step(closure): one update from the gradients of the closure.
    state_dict(), load_state_dict(state): as torch's; `state` maps the position of a parameter in all groups to its
        tensors.

    The closure (a `TrainingStep`) leaves the gradient of the whole optimizer batch in the parameters: summed over
    micro-batches and ranks, and clipped to the configured norm, which keeps its direction. All ranks call it equally
    often. All calls of one step see the same rows, weights of the rows and dropout draws. A call may raise; an
    optimizer then leaves the weights as they were before the step and lets the error through. It is called as

    closure(anchor=False): the gradient at the current weights; returns the loss there, nats per token, alike on all
        ranks. anchor: also keep the derivative of the loss in the logits, for calls of `anchored`.
    closure.anchored(weights): J^T dL/dz with J, the logits' derivative, at the current weights and dL/dz as anchored in
        this step; returns the loss at the anchor. weights: the values that the moved parameters had at the anchor, by
        parameter; one that is not in it is unchanged.
    """

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> Any:
        """Build the optimizer of the model's trainable parameters, whose state is saved by their names."""
        ...


def refuse_sharded(model: torch.nn.Module, name: str) -> None:
    """Raise InputError if a parameter is sharded (FSDP2), which the optimizer of that name does not support."""
    from torch.distributed.tensor import DTensor  # slow to import

    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise InputError(f"{name} needs whole weights but the model is sharded; train unsharded or use AdamW")
