"""The gradient of one whole optimizer batch: the closure that every optimizer is stepped with."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from curate import distributed
from curate.batches import RowOrder, micro_batches
from curate.errors import InputError
from curate.forward import batch_losses, logit_map, make_batch, pack_batch
from curate.protocols import Ints, Reweighter
from curate.scoring import plan_packs, resolve_precision
from curate.seeds import derive_seed
from curate.tokens import Tokens

if TYPE_CHECKING:
    from curate.train import TrainConfig

__all__ = ["DivergenceError", "Gradient"]

# What one more forward and backward pass costs, in tokens that take as long. A GPU waits for kernel launches
# as long as for thousands of tokens, so there batches are split for memory only; a CPU should rather not pad.
_PASS_COST = {"cpu": 32}
_PASS_COST_ELSEWHERE = 8192
_MICRO_BATCH_TOKENS = {"cpu": 4096}
_MICRO_BATCH_TOKENS_ELSEWHERE = 16384  # a default batch of rows of 512 tokens in one pass


class DivergenceError(InputError):
    """A loss or gradient stopped being finite.

    step: optimizer steps done before. rows: positions in `tokens` of the rows whose loss is not finite, or of
    the whole optimizer batch where only its gradient is not.
    """

    def __init__(self, message: str, step: int = 0, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.rows = list(rows)


class Gradient:
    """The closure of the optimizer: leaves the gradient of one whole optimizer batch in the parameters.

    Called twice in a step (SAM), it evaluates the same function twice: same rows, same dropout draws, same
    weights of the rows.
    """

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        config: TrainConfig,
        reweighter: Reweighter | None,
        device: torch.device,
        packed: bool,
    ) -> None:
        self.model, self.tokens, self.config, self.device = model, tokens, config, device
        self.packed = packed
        self.reweighter = reweighter
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        logit_map(model)  # worked out now, outside the random draws of a step
        self.order = RowOrder(np.flatnonzero(tokens.valid), config.batch_size, config.seed)
        self.lengths, self.counts = tokens.lengths, tokens.completion_tokens.astype(np.int64)
        self.half = resolve_precision(config.precision, device) == torch.bfloat16
        default = _MICRO_BATCH_TOKENS.get(device.type, _MICRO_BATCH_TOKENS_ELSEWHERE)
        self.budget = config.micro_batch_tokens or default
        self.pass_cost = _PASS_COST.get(device.type, _PASS_COST_ELSEWHERE)

    def begin(self, step: int) -> None:
        """Turn to the update that follows `step` updates."""
        self.step = step
        self.rows = self.order.batch(step)
        self.batch_tokens = int(self.counts[self.rows].sum())
        lengths = self.lengths[self.rows]
        self.tokens_seen = int(lengths.sum())
        # Dealt out by length, so that ranks wait little for each other.
        mine = np.argsort(lengths, kind="stable")[distributed.rank() :: distributed.world_size()]
        if self.packed:
            split = list(plan_packs(lengths[mine], self.budget))
        else:
            split = micro_batches(lengths[mine], self.budget, self.pass_cost)
        self.parts = [(self.rows[mine[part]], torch.from_numpy(mine[part]).to(self.device)) for part in split]
        self.weights: torch.Tensor | None = None
        self.loss = math.nan

    def __call__(self) -> float:
        """Mean loss of the batch in nats per token, unweighted; the same on all ranks."""
        for parameter in self.parameters:
            parameter.grad = None
        # One pass can be weighed between forward and backward; several need all losses before any backward.
        if self.reweighter is not None and self.weights is None and len(self.parts) != 1:
            self._weigh(self._losses_only())
        losses = torch.zeros(len(self.rows), device=self.device)
        self._seed()
        with torch.enable_grad(), self._autocast():
            for rows, index in self.parts:
                sums = self._sums(rows)
                losses[index] = sums.detach()
                if self.reweighter is not None and self.weights is None:
                    self._weigh(losses.clone())
                if self.weights is not None:
                    sums = sums * self.weights[index]
                # Nested, so that the weights already cast to bfloat16 serve the next micro-batch too.
                with torch.autocast(self.device.type, enabled=False):
                    (sums.sum() / self.batch_tokens).backward()
        distributed.sum_(losses)
        distributed.sum_gradients_(self.parameters)
        loss = self._clip(losses)
        if math.isnan(self.loss):
            self.loss = loss
        return loss

    def _clip(self, losses: torch.Tensor) -> float:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The one moment of a step when the device is waited for.
        loss, size = torch.stack([losses.sum() / self.batch_tokens, norm]).tolist()
        if not (math.isfinite(loss) and math.isfinite(size)):
            self._diverged(losses)
        limit = self.config.max_grad_norm
        if limit is not None and size > limit:
            torch._foreach_mul_(gradients, limit / (size + 1e-6))
        return float(loss)

    def _sums(self, rows: Ints) -> torch.Tensor:
        batch = (pack_batch if self.packed else make_batch)(self.tokens, rows)
        return batch_losses(self.model, batch.to(self.device))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _losses_only(self) -> torch.Tensor:
        """(b,) summed losses under the random draws of the pass to come; 0 for rows of other ranks."""
        losses = torch.zeros(len(self.rows), device=self.device)
        self._seed()
        with torch.no_grad(), self._autocast():
            for rows, index in self.parts:
                losses[index] = self._sums(rows)
        # Weights cast without a gradient must not serve the pass that needs one (under a caller's own autocast).
        torch.clear_autocast_cache()
        return losses

    def _weigh(self, sums: torch.Tensor) -> None:
        """Ask the reweighter about the optimizer batch, given (b,) summed losses of this rank's rows."""
        assert self.reweighter is not None
        counts = torch.from_numpy(self.counts[self.rows]).to(self.device)
        losses = distributed.sum_(sums) / counts
        if not bool(losses.isfinite().all()):
            self._diverged(losses)
        weights = self.reweighter.weights(losses, counts, self.step).detach().to(losses)
        if weights.shape != losses.shape or not bool(weights.isfinite().all()):
            raise InputError(
                f"{type(self.reweighter).__qualname__}.weights returned shape {tuple(weights.shape)} or values "
                f"that are not finite after {self.step} steps; return ({len(losses)},) finite weights"
            )
        self.weights = weights

    def _seed(self) -> None:
        torch.manual_seed(derive_seed(self.config.seed, "step", self.step, distributed.rank()))

    def _diverged(self, losses: torch.Tensor) -> NoReturn:
        bad = self.rows[(~losses.isfinite()).cpu().numpy()].tolist()
        rows = bad or self.rows.tolist()
        what = f"the loss of {len(bad)} of {len(self.rows)} rows" if bad else "the gradient"
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise DivergenceError(
            f"{what} is not finite after {self.step} optimizer steps (row positions {shown}); lower "
            f"learning_rate (peak {self.config.learning_rate:g}) or look at these rows",
            self.step,
            rows,
        )
