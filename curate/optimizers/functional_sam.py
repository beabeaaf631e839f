"""Functional sharpness-aware minimization: SAM without the effect of the loss's curvature in the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from curate.component import Component
from curate.optimizers.adamw import AdamW
from curate.optimizers.protocols import refuse_sharded
from curate.optimizers.sam import BaseOptimizer, WrappedOptimizer, ascent, moved, with_gradient

if TYPE_CHECKING:
    import torch


_DAMPING = 1e-6


class FunctionalSAM(Component):
    """Functional SAM (Singh, Mobahi, Agarwala & Dauphin, arXiv 2502.02407): two gradients a step.

    With logits z and their derivative J the gradient is J(w)^T dL/dz(w). SAM takes both factors at w + eps; here J
    alone is taken there: g = J(w + eps)^T dL/dz(w), applied at w by `base`, AdamW or Muon. That leaves out the part of
    SAM that grows with the curvature of the loss in the logits, which dominates in language models.

    eps = rho * d / ||d||_2 over all parameters together, d the gradient at w; preconditioned: d = gradient / (sqrt(v) +
    1e-6), v AdamW's second moment of the previous steps, bias-corrected. v is 1 before the first step and for
    parameters that AdamW does not train. The reference code takes v without bias correction. Ranks and clipping: see
    `SAM`; here, too, eps is that of the unclipped gradient of the whole optimizer batch.
    """

    base: BaseOptimizer = Field(default_factory=AdamW)
    rho: float = Field(default=0.05, ge=0)
    preconditioned: bool = False

    def build(
        self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float
    ) -> FunctionalSharpnessAwareOptimizer:
        """The optimizer of the model's trainable parameters, with the base optimizer's groups and state."""
        refuse_sharded(model, type(self).__name__)
        base = self.base.build(model, learning_rate=learning_rate, weight_decay=weight_decay)
        return FunctionalSharpnessAwareOptimizer(base, rho=self.rho, preconditioned=self.preconditioned)


class FunctionalSharpnessAwareOptimizer(WrappedOptimizer):
    """Built by `FunctionalSAM`: steps the base optimizer with the functional gradient."""

    def __init__(self, base: Any, *, rho: float, preconditioned: bool) -> None:
        super().__init__(base)
        self.rho, self.preconditioned = rho, preconditioned

    def step(self, closure: Any) -> float:
        """One update; returns the loss at the unperturbed weights, which are restored bit for bit before the update."""
        loss = closure(anchor=True)
        parameters, gradients = with_gradient(self.base)
        if self.preconditioned:
            gradients = self._preconditioned(gradients)
        with moved(parameters, ascent(parameters, gradients, self.rho)) as weights:
            closure.anchored(dict(zip(parameters, weights, strict=True)))
        self.base.step(lambda: loss)
        return loss

    def _preconditioned(self, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients divided by the square root of AdamW's bias-corrected second moment."""
        directions = []
        remaining = iter(gradients)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = next(remaining)
                state = self.base.state.get(parameter, {})
                if "exp_avg_sq" in state:
                    second = state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"])
                    gradient = gradient / (second.sqrt_() + _DAMPING)
                else:
                    gradient = gradient / (1 + _DAMPING)
                directions.append(gradient)
        return directions
