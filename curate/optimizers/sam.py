"""Sharpness-aware minimization: the gradient at perturbed weights, applied at the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from curate.component import Component
from curate.optimizers.adamw import AdamW
from curate.optimizers.protocols import refuse_sharded

if TYPE_CHECKING:
    import torch


def takes_two_gradients(optimizer: Any) -> bool:
    """Whether it wraps a base optimizer, as SAM does; False for third-party optimizers, for which this is unknown."""
    return isinstance(optimizer, Component) and "base" in type(optimizer).model_fields


def _check_base(base: Any) -> Any:
    """`base`, unless it wraps a base optimizer itself: it would get one gradient where it needs two."""
    if takes_two_gradients(base):
        raise ValueError(f"{type(base).__name__} takes two gradients a step and cannot be a base; use AdamW or Muon")
    return base


BaseOptimizer = Annotated[Any, AfterValidator(_check_base)]  # of an optimizer that takes two gradients per step


class SAM(Component):
    """Sharpness-aware minimization (Foret et al., 2021, eqs. 2 and 3): two gradients a step.

    eps = rho * g / ||g||_2 over all parameters together; the gradient at w + eps is applied at w by `base`, AdamW
    or Muon. adaptive=True is ASAM (Kwon et al., 2021): eps = rho * w^2 g / || |w| g ||, which needs a rho ten times
    larger or more.

    m-sharpness: with several ranks g is the gradient of the whole optimizer batch, all-reduced, so m is the batch
    size of the training configuration whatever the number of ranks; it is not each rank's own gradient, as in
    Foret et al., section 4.1. Both gradients are clipped by max_grad_norm. By norm only, so the ascent's direction
    and, being normalized, eps itself are those of the unclipped gradient.
    """

    base: BaseOptimizer = Field(default_factory=AdamW)
    rho: float = Field(default=0.05, ge=0)
    adaptive: bool = False

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> SharpnessAwareOptimizer:
        """The optimizer of the model's trainable parameters, with the base optimizer's groups and state."""
        refuse_sharded(model, type(self).__name__)
        base = self.base.build(model, learning_rate=learning_rate, weight_decay=weight_decay)
        return SharpnessAwareOptimizer(base, rho=self.rho, adaptive=self.adaptive)


class WrappedOptimizer:
    """An optimizer with the parameter groups and state of the one that it wraps."""

    def __init__(self, base: Any) -> None:
        self.base = base

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.base.param_groups
        return groups

    def state_dict(self) -> dict[str, Any]:
        return dict(self.base.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)


class SharpnessAwareOptimizer(WrappedOptimizer):
    """Built by `SAM`: steps the base optimizer with the gradient at the perturbed weights."""

    def __init__(self, base: Any, *, rho: float, adaptive: bool) -> None:
        super().__init__(base)
        self.rho, self.adaptive = rho, adaptive

    def step(self, closure: Callable[[], float]) -> float:
        """One update; returns the loss at the unperturbed weights.

        The weights are restored bit for bit before the base optimizer moves them, even if the second closure
        raises.
        """
        loss = closure()
        parameters, gradients = with_gradient(self.base)
        with moved(parameters, ascent(parameters, gradients, self.rho, self.adaptive)):
            closure()
        self.base.step(lambda: loss)
        return loss


def with_gradient(optimizer: Any) -> tuple[list[torch.nn.Parameter], list[torch.Tensor]]:
    """The parameters of `optimizer` that have a gradient, and their gradients."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return parameters, [p.grad for p in parameters]


@contextmanager
def moved(parameters: Sequence[torch.nn.Parameter], steps: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Move parameters inside the context and restore them bit for bit afterwards; yields their old values."""
    import torch

    # w + eps - eps is not w in floating point, hence copies.
    saved = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            torch._foreach_add_(list(parameters), list(steps))
        yield saved
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), saved)


def ascent(
    parameters: Iterable[torch.Tensor], gradients: Iterable[torch.Tensor], rho: float, adaptive: bool = False
) -> list[torch.Tensor]:
    """The perturbation eps of SAM, one tensor per parameter and of its shape.

    rho * g / (||g|| + 1e-12), or with `adaptive` rho * w^2 g / (|| |w| g || + 1e-12); the norm is over all
    parameters together. Zero gradients give a zero perturbation.
    """
    import torch

    with torch.no_grad():
        direction = [g.detach() for g in gradients]
        weights = [p.detach() for p in parameters] if adaptive else []
        if adaptive:
            direction = list(torch._foreach_mul(torch._foreach_abs(weights), direction))
        scale = rho / (torch.nn.utils.get_total_norm(direction) + 1e-12)
        eps = torch._foreach_mul(direction, scale)
        if adaptive:
            torch._foreach_mul_(eps, torch._foreach_abs(weights))
        return list(eps)
