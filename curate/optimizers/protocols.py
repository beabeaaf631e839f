"""Protocols of optimizers and of the closure that they are stepped with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from curate.errors import InputError

if TYPE_CHECKING:
    import torch


class Closure(Protocol):
    """Leaves the gradient of the whole optimizer batch in the parameters: summed over micro-batches and ranks, and
    clipped to the configured norm, which keeps its direction. All ranks call it equally often.

    All calls of one step see the same rows, weights of the rows and dropout draws. A call may
    raise; an optimizer then leaves the weights as they were before the step and lets the error through.
    """

    def __call__(self, *, anchor: bool = False) -> float:
        """The gradient at the current weights; returns the loss there, nats per token, alike on all ranks.

        anchor: also keep the derivative of the loss in the logits, for calls of `anchored`.
        """
        ...

    def anchored(self, weights: Mapping[torch.nn.Parameter, torch.Tensor]) -> float:
        """J^T dL/dz with J, the logits' derivative, at the current weights and dL/dz as anchored in this step.

        weights: the values that the moved parameters had at the anchor; a parameter that is not in it is unchanged.
            Returns the loss at the anchor.
        """
        ...


class SteppedOptimizer(Protocol):
    """A built optimizer: any `torch.optim.Optimizer`, or one that makes more use of its closure.

    Each of `param_groups` has `initial_lr`, its peak learning rate, and `param_names`, the names of its parameters; the
    loop sets `lr` before each step.
    """

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def step(self, closure: Closure) -> Any:
        """One update from the gradients of `closure`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As torch's: `state` maps the position of a parameter in all groups to its tensors."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Optimizer(Protocol):
    """An optimizer's parameters; `build` makes the object that updates weights."""

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> SteppedOptimizer:
        """The optimizer of the model's trainable parameters, whose state goes by their names."""
        ...


def refuse_sharded(model: torch.nn.Module, name: str) -> None:
    """Raise InputError where a parameter is sharded (FSDP2), which the optimizer of that name does not support."""
    from torch.distributed.tensor import DTensor  # slow to import

    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise InputError(f"{name} needs whole weights but the model is sharded; train unsharded or use AdamW")
