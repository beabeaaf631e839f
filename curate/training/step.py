"""One optimizer step: the closure that computes the gradient of the whole batch, in micro-batches."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch

from curate.devices import distributed
from curate.devices.memory import OutOfMemory, out_of_memory
from curate.devices.precision import resolve_precision
from curate.errors import DivergenceError, InputError
from curate.models.batches import Batch, make_batch, pack_batch, plan_packs
from curate.models.embeddings import embedded_losses
from curate.models.forward import anchor_losses, anchored_losses, batch_losses, logit_map
from curate.seeds import derive_seed
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.reweighting import BatchOutputs, OptimizerBatch, ReweightingState, Training, TrainingRows
from curate.training.row_order import RowOrder, micro_batches, rank_micro_batches
from curate.types import IntArray

# Cost of one more forward and backward pass, in tokens that take as long. On a GPU a kernel launch takes as long as
# thousands of tokens, so batches are split there for memory only; a CPU loses more by padding.
_PASS_COST_CPU, _PASS_COST = 32, 8192
_MICRO_BATCH_TOKENS_CPU, _MICRO_BATCH_TOKENS = 4096, 16384  # the latter: a default batch of rows of 512 tokens


Result = TypeVar("Result")


class TrainingStep:
    """One optimizer step, and the closure that the optimizer calls in it, see `curate.optimizers.Optimizer`.

    budget: most tokens per forward pass; may be set. A step that runs out of memory halves it and is repeated.
    lowered: whether that happened; may be set. notes: messages about it for the user.
    loss: mean loss of the step's batch in nats per token; norm: L2 norm of its gradient before clipping; both at
        the weights before the step. passes: gradients computed in the step.
    packed: whether rows go through the model end to end, without padding. drops_out: whether dropout is active.
    sharded: whether the model is sharded (FSDP2).
    """

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        config: TrainConfig,
        device: torch.device,
        packed: bool,
        drops_out: bool = False,
        sharded: bool = False,
    ) -> None:
        self.model, self.tokens, self.config, self.device = model, tokens, config, device
        self.packed, self.drops_out = packed, drops_out
        self.reweighting: ReweightingState | None = None
        self._embeds = False
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        logit_map(model)  # probed now, outside the random draws of a step
        self.sharded = sharded
        self.losses_of = model.batch_losses if sharded else partial(batch_losses, model)
        self.order = RowOrder(np.flatnonzero(tokens.valid), config.batch_size, config.seed)
        self.lengths, self.counts = tokens.lengths, tokens.completion_tokens.astype(np.int64)
        self.half = resolve_precision(config.precision, device) == torch.bfloat16
        on_cpu = device.type == "cpu"
        self.budget = config.micro_batch_tokens or (_MICRO_BATCH_TOKENS_CPU if on_cpu else _MICRO_BATCH_TOKENS)
        self.pass_cost = _PASS_COST_CPU if on_cpu else _PASS_COST
        self.lowered = False
        self.notes: list[str] = []
        if drops_out:
            self.notes.append(
                f"the model drops out at random in training, and what it drops depends on the size of micro-batches "
                f"({self.budget} tokens): runs that are to be compared need the same one (--micro-batch-tokens)"
            )

    def reweight(
        self, reweighter: Any, rows: TrainingRows, state: Mapping[str, torch.Tensor] | None = None
    ) -> ReweightingState:
        """Weight the rows of later batches by `reweighter`. Raises InputError if it cannot be used in this run.

        state: from `ReweightingState.state` of the run that is resumed.
        """
        training = Training(
            self.model,
            self.tokens,
            rows,
            self.config.batch_size,
            self.config.seed,
            self.device,
            self.half,
            pack_batch if self.packed else make_batch,
            lambda: self.budget,
            lambda: self.config.steps,
        )
        self.reweighting = ReweightingState(reweighter, lambda: training, len(self.tokens), sharded=self.sharded)
        self._embeds = self.reweighting.embeds
        if state is not None:
            self.reweighting.load_state(state)
        return self.reweighting

    def run(self, optimizer: Any, step: int) -> None:
        """Make the update that follows `step` updates. All ranks must call it.

        Where memory runs out on any rank, the whole step is repeated in smaller micro-batches, so that all its passes
        see the same dropout draws; the reweighter is not called again. Raises InputError if a row does not fit
        alone.
        """
        self.step = step
        self.rows = self.order.batch(step)
        self.batch_tokens = int(self.counts[self.rows].sum())
        self.tokens_seen = int(self.lengths[self.rows].sum())
        self.weights: torch.Tensor | None = None
        if self.reweighting is not None:
            self._refresh(self.reweighting)
        while True:
            self._plan()
            self.loss = self.norm = math.nan
            self.passes = 0
            self.anchors: list[torch.Tensor | None] = []
            try:
                optimizer.step(self)
                return
            except OutOfMemory:
                pass  # the traceback holds tensors until this block ends
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise InputError(
                    f"out of memory after {step} optimizer steps, for the optimizer's own tensors (as large as the "
                    "trained weights, several times); train LoRA instead of all weights"
                ) from error
            finally:
                self.anchors = []
            self._shrink()

    def _refresh(self, reweighting: ReweightingState) -> None:
        """Run the reweighter's `refresh`, again in smaller micro-batches if memory runs out. All ranks must call it."""
        for parameter in self.parameters:
            parameter.grad = None  # of the last step; `refresh` needs the memory
        while True:
            torch.clear_autocast_cache()
            try:
                reweighting.refresh(self.step)
                return
            except OutOfMemory:
                pass  # memory ran out on another rank
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            self._shrink()

    def _plan(self) -> None:
        """Split this rank's rows into micro-batches: positions in the data, and positions in the batch, of each."""
        lengths = self.lengths[self.rows]  # (b,)
        rank, world = distributed.rank(), distributed.world_size()
        parts = rank_micro_batches(lengths, self._split, rank, world, equally_many=self.sharded)
        stand_in = self.rows[[lengths.argmin()]]  # runs through the model where a part is empty
        self.parts = [
            (self.rows[part] if len(part) else stand_in, torch.from_numpy(part).to(self.device)) for part in parts
        ]

    def _split(self, lengths: IntArray) -> list[IntArray]:
        if self.packed:
            return list(plan_packs(lengths, self.budget))
        return micro_batches(lengths, self.budget, self.pass_cost)

    def _shrink(self) -> None:
        """Halve the budget. All ranks must call it, and get the same result."""
        for parameter in self.parameters:
            parameter.grad = None
        gc.collect()  # a graph may be held by a reference cycle
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        longest = int(self.lengths[self.rows].max())
        if self.budget <= longest:
            remedies = ["lower max_length", "train LoRA instead of all weights"]
            remedies += [] if self.config.gradient_checkpointing else ["set gradient_checkpointing"]
            raise InputError(
                f"out of memory after {self.step} optimizer steps with micro-batches of {self.budget} tokens, and a "
                f"row of {longest} tokens cannot be cut; {', or '.join(remedies)}"
            )
        before = self.budget
        # No part is larger than the padded batch, so halving a budget above that would change nothing.
        self.budget = max(longest, min(before, longest * len(self.rows)) // 2)
        self.lowered = True
        self.notes.append(
            f"out of memory after {self.step} optimizer steps: micro-batches of {self.budget} tokens from now on, "
            f"{before} until now"
            + ("; dropout depends on it, so the result is that of neither" if self.drops_out else "")
        )

    def __call__(self, *, anchor: bool = False) -> float:
        """Mean loss of the batch in nats per token, unweighted. All ranks must call it, and get the same result."""
        if not anchor:
            return self._evaluate(lambda batch, _: self.losses_of(batch))
        self.anchors = []

        def anchoring(batch: Batch, _: int) -> torch.Tensor:
            losses, hidden = anchor_losses(self.model, batch)
            self.anchors.append(hidden)
            return losses

        return self._evaluate(anchoring, anchor=True)

    def anchored(self, weights: Mapping[torch.nn.Parameter, torch.Tensor]) -> float:
        """Compute the functional gradient; returns the loss at the anchor. All ranks must call it."""
        return self._evaluate(lambda batch, part: anchored_losses(self.model, batch, self.anchors[part], weights))

    def _evaluate(self, losses_of: Callable[[Batch, int], torch.Tensor], anchor: bool = False) -> float:
        """One gradient of the batch, clipped; returns the mean loss. Runs on every rank.

        losses_of: called with a micro-batch and its number, returns the summed loss of each row. anchor: whether it
        records the hidden states of `anchor_losses`; embeddings for the reweighter then need a separate forward pass.
        """
        for parameter in self.parameters:
            parameter.grad = None
        self.passes += 1
        # A single micro-batch gets its weights between forward and backward; several need all losses before that.
        if (
            self.reweighting is not None
            and self.weights is None
            and (len(self.parts) != 1 or (self._embeds and anchor))
        ):
            self._set_weights(self._none_if_out_of_memory(self._outputs))
        losses = self._summed(self._none_if_out_of_memory(lambda: self._backward(losses_of)))
        if not self.sharded:
            distributed.sum_gradients_(self.parameters)
        loss, norm = self._clip(losses)
        if self.passes == 1:
            self.loss, self.norm = loss, norm
        return loss

    def _backward(self, losses_of: Callable[[Batch, int], torch.Tensor]) -> torch.Tensor:
        """(b,) summed losses; adds the gradient of this rank's rows to the parameters'. 0 for rows of other ranks."""
        losses = torch.zeros(len(self.rows), device=self.device)  # (b,)
        self._restart()
        with torch.enable_grad(), self._autocast():
            for part, (rows, index) in enumerate(self.parts):
                if self._embeds and self.weights is None:
                    sums, embeddings = self._embedded(rows, index)
                else:
                    sums, embeddings = losses_of(self._batch(rows), part)[: len(index)], None
                losses[index] = sums.detach()
                if self.reweighting is not None and self.weights is None:
                    self._set_weights((losses.clone(), embeddings))
                if self.weights is not None:
                    sums = sums * self.weights[index]
                # Nested, so that autocast keeps its bfloat16 weights for the next micro-batch.
                with torch.autocast(self.device.type, enabled=False):
                    (sums.sum() / self.batch_tokens).backward()
        return losses

    def _none_if_out_of_memory(self, compute: Callable[[], Result]) -> Result | None:
        """The result of `compute`, or None if memory ran out on this rank."""
        try:
            return compute()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if self.sharded:
                raise InputError(
                    f"out of memory after {self.step} optimizer steps; ranks of a sharded model cannot go back, so "
                    f"set micro_batch_tokens (now {self.budget}) lower and rerun"
                ) from error
        return None

    def _summed(self, sums: torch.Tensor | None) -> torch.Tensor:
        """(b,) losses summed over ranks; raises OutOfMemory on all of them if one passes None.

        All ranks call it: after a failure anywhere it is every rank's next collective, whichever pass it is in.
        """
        if distributed.world_size() == 1:
            if sums is None:
                raise OutOfMemory
            return sums
        failed = torch.full((1,), float(sums is None), device=self.device)
        own = torch.zeros(len(self.rows), device=self.device) if sums is None else sums
        flagged = distributed.sum_(torch.cat([own, failed]))  # (b + 1,)
        if flagged[-1].item() > 0:
            raise OutOfMemory
        return flagged[:-1]

    def _clip(self, losses: torch.Tensor) -> tuple[float, float]:
        """Mean loss of the batch and L2 norm of its gradient, which is then clipped. All ranks must call it."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if self.sharded else norm  # type: ignore[attr-defined]
        # The only synchronization with the device in a step.
        loss, size = torch.stack([losses.sum() / self.batch_tokens, norm]).tolist()
        if not (math.isfinite(loss) and math.isfinite(size)):
            self._diverged(losses)
        limit = self.config.max_grad_norm
        if limit is not None and size > limit:
            torch._foreach_mul_(gradients, limit / (size + 1e-6))
        return float(loss), float(size)

    def _batch(self, rows: IntArray) -> Batch:
        return (pack_batch if self.packed else make_batch)(self.tokens, rows).to(self.device)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        cached = not self.sharded  # copies of all layers would be as large as what sharding saves
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half, cache_enabled=cached)

    def _embedded(self, rows: IntArray, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(k,) summed losses of the k rows of a part, and (b, d) embeddings, 0 for the other rows of the batch."""
        lengths = torch.from_numpy(self.lengths[rows]).to(self.device)
        # (k,), (k, d)
        sums, part_embeddings = embedded_losses(self.model, self._batch(rows), lengths)
        embeddings = torch.zeros(len(self.rows), part_embeddings.shape[1], device=self.device)
        embeddings[index] = part_embeddings
        return sums, embeddings

    def _outputs(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(b,) summed losses, and (b, d) embeddings where wanted, under the random draws of the next pass.

        0 for rows of other ranks.
        """
        losses = torch.zeros(len(self.rows), device=self.device)  # (b,)
        embeddings: torch.Tensor | None = None
        self._restart()
        with torch.no_grad(), self._autocast():
            for rows, index in self.parts:
                if self._embeds:
                    losses[index], own = self._embedded(rows, index)
                    embeddings = own if embeddings is None else embeddings + own
                else:
                    losses[index] = self.losses_of(self._batch(rows))[: len(index)]
        return losses, embeddings

    def _set_weights(self, outputs: tuple[torch.Tensor, torch.Tensor | None] | None) -> None:
        """Call the reweighter for the optimizer batch, on all ranks. outputs: of `_outputs`, None if out of memory."""
        assert self.reweighting is not None
        sums, embeddings = (None, None) if outputs is None else outputs
        counts = torch.from_numpy(self.counts[self.rows]).to(self.device)  # (b,)
        losses = self._summed(sums) / counts  # (b,) nats per token
        if not bool(losses.isfinite().all()):
            self._diverged(losses)
        if self._embeds:
            if embeddings is None:  # this rank has no rows
                width = self.model.get_output_embeddings().in_features
                embeddings = torch.zeros(len(self.rows), width, device=self.device)  # (b, d)
            embeddings = distributed.sum_(embeddings)
        rows = torch.from_numpy(self.rows)
        self.weights = self.reweighting.weights(
            OptimizerBatch(self.step, counts, rows), BatchOutputs(losses, embeddings)
        )

    def _restart(self) -> None:
        """Seed the random draws of the step, so that every pass of it sees the same dropout."""
        torch.manual_seed(derive_seed(self.config.seed, "step", self.step, distributed.rank()))
        # A caller's own autocast would keep bfloat16 copies of weights that have changed or that carry no gradient.
        torch.clear_autocast_cache()

    def _diverged(self, losses: torch.Tensor) -> NoReturn:
        """Raise DivergenceError that names the rows with a loss that is not finite."""
        bad = self.rows[(~losses.isfinite()).cpu().numpy()].tolist()
        rows = bad or self.rows.tolist()
        problem = f"the loss of {len(bad)} of {len(self.rows)} rows" if bad else "the gradient"
        raise DivergenceError.at(problem, self.step, rows, self.config.learning_rate)
