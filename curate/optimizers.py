"""Optimizers as parameters: frozen components that build the torch object when training starts.

THE training loop always calls `step(closure)`, where the closure leaves the gradient of the whole optimizer
batch in the parameters: added up over micro-batches and ranks, and clipped. An optimizer that needs a second
gradient therefore calls the closure twice, and the loop has no branch for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field

from curate.component import Component

__all__ = ["SAM", "AdamW", "Optimizer", "SharpnessAwareOptimizer", "SteppedOptimizer", "ascent"]

NamedParameters = Sequence[tuple[str, torch.nn.Parameter]]


class SteppedOptimizer(Protocol):
    """What the training loop asks of a built optimizer; every `torch.optim.Optimizer` has it.

    Each of `param_groups` has `initial_lr`, its peak learning rate, and `param_names`, the names of its
    parameters; the loop sets `lr` before each step.
    """

    param_groups: list[dict[str, Any]]

    def step(self, closure: Callable[[], float]) -> Any:
        """One update; `closure()` leaves the gradient at the current weights and returns the loss."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Optimizer(Protocol):
    """An optimizer's parameters; `build` makes the object that updates weights."""

    def build(self, parameters: NamedParameters, *, learning_rate: float, weight_decay: float) -> SteppedOptimizer: ...


class AdamW(Component):
    """AdamW (Loshchilov & Hutter, 2019), fused into one pass over the weights where torch can.

    `learning_rate` and `weight_decay` are those of the training configuration unless given here. Weight decay
    acts on matrices only, not on biases and norms.
    """

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)

    def build(self, parameters: NamedParameters, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
        """The optimizer over `parameters`; state is kept under their names."""
        peak = learning_rate if self.learning_rate is None else self.learning_rate
        decay = weight_decay if self.weight_decay is None else self.weight_decay
        split: list[tuple[list[tuple[str, torch.nn.Parameter]], float]] = [
            ([(name, p) for name, p in parameters if p.ndim >= 2], decay),
            ([(name, p) for name, p in parameters if p.ndim < 2], 0.0),
        ]
        groups = [
            {"params": members, "lr": peak, "initial_lr": peak, "weight_decay": own}
            for members, own in split
            if members
        ]
        fused = all(p.device.type in ("cpu", "cuda") for _, p in parameters)
        return torch.optim.AdamW(groups, lr=peak, betas=self.betas, eps=self.eps, fused=fused)


class SAM(Component):
    """Sharpness-aware minimisation (Foret et al., 2021, eqs. 2 and 3): two gradients a step.

    eps = rho * g / ||g||_2 over all parameters together; the gradient at w + eps is applied at w by `base`.
    adaptive=True is ASAM (Kwon et al., 2021): eps = rho * w^2 g / || |w| g ||, which wants a rho ten times
    larger or more. With several ranks g is the gradient of the whole optimizer batch (all-reduced), not each
    rank's own as in m-sharpness.
    """

    base: Any = Field(default_factory=AdamW)
    rho: float = Field(default=0.05, ge=0)
    adaptive: bool = False

    def build(
        self, parameters: NamedParameters, *, learning_rate: float, weight_decay: float
    ) -> SharpnessAwareOptimizer:
        """The optimizer over `parameters`, with the base optimizer's groups and state."""
        base = self.base.build(parameters, learning_rate=learning_rate, weight_decay=weight_decay)
        return SharpnessAwareOptimizer(base, rho=self.rho, adaptive=self.adaptive)


class SharpnessAwareOptimizer:
    """What `SAM` builds: the base optimizer, given the gradient at the perturbed weights."""

    def __init__(self, base: SteppedOptimizer, *, rho: float, adaptive: bool) -> None:
        self.base = base
        self.rho = rho
        self.adaptive = adaptive

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.base.param_groups

    def step(self, closure: Callable[[], float]) -> float:
        """One update; returns the loss at the unperturbed weights.

        The weights are back bit for bit before the base optimizer moves them, also when the second closure
        raises.
        """
        loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        # w + eps - eps is not w in floating point, hence copies.
        saved = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            torch._foreach_add_(parameters, ascent(parameters, gradients, self.rho, self.adaptive))
        try:
            closure()
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, saved)
        self.base.step(lambda: loss)
        return loss

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)


def ascent(
    parameters: Iterable[torch.Tensor], gradients: Iterable[torch.Tensor], rho: float, adaptive: bool = False
) -> list[torch.Tensor]:
    """The perturbation eps of SAM, one tensor per parameter and of its shape.

    rho * g / (||g|| + 1e-12), or with `adaptive` rho * w^2 g / (|| |w| g || + 1e-12); the norm is over all
    parameters together. Zero gradients give a zero perturbation.
    """
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
