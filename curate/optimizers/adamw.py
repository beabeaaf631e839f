"""AdamW with decoupled weight decay on matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from curate.component import Component

if TYPE_CHECKING:
    import torch


class AdamW(Component):
    """AdamW (Loshchilov & Hutter, 2019), fused into one pass over the weights where torch can.

    `learning_rate` and `weight_decay` are those of the training configuration unless set here. Weight decay
    acts on matrices only, not on biases and norms.
    """

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
        """The optimizer of all trainable parameters."""
        return self.of(trainable(model), learning_rate=learning_rate, weight_decay=weight_decay)

    def of(
        self, parameters: Sequence[tuple[str, torch.nn.Parameter]], *, learning_rate: float, weight_decay: float
    ) -> torch.optim.AdamW:
        """The optimizer of the given parameters, passed with their names."""
        import torch

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


def trainable(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that require a gradient, each once (tied ones under their first name), in the model's order."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
