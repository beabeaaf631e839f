"""What an online reweighter is told, and how the training loop keeps one: begun, refreshed, asked, saved.

A reweighter that only looks at losses is one method (`curate.protocols.Reweighter`). One that has to know the run (the
model, the rows, a further dataset) also has `begin`, and what that returns lives as long as the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from curate import models
from curate.errors import InputError
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

    from curate.models.batches import Batch


__all__ = [
    "NO_ROWS",
    "BatchOutputs",
    "BeginningReweighter",
    "EmbeddingReweighter",
    "OptimizerBatch",
    "RefreshedReweighter",
    "RememberingReweighter",
    "Reweighter",
    "Reweighting",
    "RowReweighter",
    "Training",
    "TrainingRows",
    "mean_weights",
    "of_rows",
]


@dataclass(frozen=True)
class OptimizerBatch:
    """The b examples of one whole optimizer batch, of all micro-batches and ranks.

    step: optimizer updates done before this one.
    tokens: (b,) int64 completion tokens of each.
    rows: (b,) int64 positions in the training data; None in a loop that does not know them.
    """

    step: int
    tokens: torch.Tensor
    rows: torch.Tensor | None = None

    def known_rows(self, wanted_by: str) -> torch.Tensor:
        """(b,) `rows`, on the CPU. Raises InputError in a loop that does not know them."""
        if self.rows is None:
            raise InputError(
                f"{wanted_by} weighs rows by their place in the training data; give OptimizerBatch rows, those places"
            )
        return self.rows.cpu()


@dataclass(frozen=True)
class BatchOutputs:
    """What the model says of the b examples, at the weights before the update; detached.

    losses: (b,) float32 mean nats per completion token.
    embeddings: (b, d) float32, see `curate.models.embeddings`; only for a reweighter that wants them.
    """

    losses: torch.Tensor
    embeddings: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainingRows:
    """What there is to know of the n rows that are trained on, besides their tokens.

    columns: name -> (n,) values of that column of the data.
    source: name of the column that says where a row comes from, where the data has one.
    tokenise: a further dataset as the rows were tokenised: whatever `curate.read` takes, and its options.
    """

    columns: Mapping[str, Sequence[Any]]
    source: str | None = None
    tokenise: Callable[[Any, Mapping[str, Any]], Tokens] | None = None

    def column(self, name: str, wanted_by: str) -> npt.NDArray[Any]:
        """(n,) object values. Raises InputError where there is no such column."""
        if name not in self.columns:
            known = ", ".join(self.columns) or "none"
            raise InputError(f"{wanted_by} reads column {name!r}, which the data does not have; its columns: {known}")
        values = np.empty(len(self.columns[name]), object)
        values[:] = list(self.columns[name])
        return values

    def tokens_of(self, data: Any, reading: Mapping[str, Any], wanted_by: str) -> Tokens:
        """A further dataset, tokenised as the rows were; its valid rows alone. InputError where there are none."""
        if self.tokenise is None:
            raise InputError(f"{wanted_by} reads a dataset of its own; pass TrainingRows with tokenise to the loop")
        tokens = self.tokenise(data, reading)
        kept = np.flatnonzero(tokens.valid)
        if len(kept) == 0:
            raise InputError(
                f"{wanted_by}: none of the {len(tokens)} rows has completion text left in the context; give rows that "
                "have an answer, or raise max_length"
            )
        return tokens.take(kept)


NO_ROWS = TrainingRows({})


@dataclass(frozen=True)
class Training:
    """The run that a reweighter takes part in, alike on all ranks.

    tokens: of the n rows trained on. rows: what else is known of them. batch_size: rows per optimizer step.
    seed: of the run. half: whether it computes in bfloat16 autocast. make_batch: rows of some tokens for the model.
    budget: most tokens that go through the model at once.
    """

    model: Any
    tokens: Tokens
    rows: TrainingRows
    batch_size: int
    seed: int
    device: torch.device
    half: bool
    make_batch: Callable[[Tokens, IntArray], Batch]
    budget: Callable[[], int]

    def gradient(self, tokens: Tokens) -> list[torch.Tensor]:
        """Gradient of the mean loss per completion token over the valid rows of `tokens`, as `curate.models.gradients`.

        One tensor per trainable parameter, in the model's order. Ranks share out the rows.
        """
        return models.mean_gradient(
            self.model, tokens, device=self.device, half=self.half, budget=self.budget(), make_batch=self.make_batch
        )

    def embeddings(self, tokens: Tokens) -> torch.Tensor:
        """(n, d) float32 embeddings of the rows of `tokens` at the weights of now, in eval mode."""
        return models.embeddings_of(
            self.model, tokens, device=self.device, half=self.half, budget=self.budget(), make_batch=self.make_batch
        )


class Reweighting:
    """A reweighter in a run over n rows: asked once an optimizer step, and what it said is added up per row.

    training: makes what a reweighter that begins is told; not called for others.
    reweighter: as it was given. live: what it began as. embeds: whether it wants embeddings of the batch. averages:
    what its method averages; the record of the rows is in that unit.
    """

    def __init__(self, reweighter: Any, training: Callable[[], Training], n: int, *, sharded: bool = False) -> None:
        import torch

        self.live = reweighter.begin(training()) if isinstance(reweighter, BeginningReweighter) else reweighter
        if not isinstance(self.live, Reweighter):
            raise InputError(
                f"{type(reweighter).__qualname__} does not fit: a reweighter has a method weights(batch, outputs)"
            )
        self.reweighter = reweighter
        self.embeds = isinstance(self.live, EmbeddingReweighter) and self.live.embeds
        self.averages: Literal["tokens", "rows"] = (
            self.live.averages if isinstance(self.live, RowReweighter) else "tokens"
        )
        if sharded and (self.embeds or isinstance(self.live, RefreshedReweighter)):
            raise InputError(
                f"{type(reweighter).__qualname__} looks at the whole model, which sharding leaves on no rank; choose a "
                "reweighter that looks at losses or columns alone, or leave sharding out"
            )
        self.sums = torch.zeros(n, dtype=torch.float64)
        self.times = torch.zeros(n, dtype=torch.int64)

    def refresh(self, step: int) -> None:
        """Before the update that follows `step` updates."""
        if isinstance(self.live, RefreshedReweighter):
            self.live.refresh(step)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) finite weights of the batch loss, detached. The method's own are added to the record of the rows.

        Raises InputError where the reweighter returns others.
        """
        import torch

        b = len(outputs.losses)
        weights = self.live.weights(batch, outputs).detach().to(outputs.losses)
        if weights.shape != (b,) or not bool(weights.isfinite().all()):
            raise InputError(
                f"{type(self.live).__qualname__}.weights returned shape {tuple(weights.shape)} or values that are not "
                f"finite after {batch.step} steps; return ({b},) finite weights"
            )
        if batch.rows is not None:
            rows = batch.rows.cpu()
            own = weights * _sizes(batch.tokens).to(weights) if self.averages == "rows" else weights
            self.sums.index_add_(0, rows, own.double().cpu())
            self.times.index_add_(0, rows, torch.ones_like(rows))
        return weights

    def state(self) -> dict[str, torch.Tensor]:
        """All that a resumed run must know, by name."""
        own = self.live.state() if isinstance(self.live, RememberingReweighter) else {}
        return {"sums": self.sums, "times": self.times} | {f"own/{name}": tensor for name, tensor in own.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        self.sums, self.times = state["sums"].clone(), state["times"].clone()
        own = {name.removeprefix("own/"): tensor for name, tensor in state.items() if name.startswith("own/")}
        if isinstance(self.live, RememberingReweighter):
            self.live.load_state(own)


def of_rows(weights: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(b,) w_i mean(n) / n_i: with these a loss that averages tokens is the mean of w_i l_i over the rows.

    weights: (b,) w. tokens: (b,) completion tokens n of the whole optimizer batch, of all micro-batches and ranks.
    """
    return weights / _sizes(tokens).to(weights)


def _sizes(tokens: torch.Tensor) -> torch.Tensor:
    """(b,) float32 completion tokens of each row over their mean; a row without any counts as one of one token."""
    return tokens.clamp_min(1).float() / tokens.float().mean()


def mean_weights(state: Mapping[str, torch.Tensor]) -> tuple[FloatArray, IntArray]:
    """(n,) mean weight of every row over the steps that drew it (NaN where none did), and (n,) how many did.

    Weights are the method's own w, also of a method that averages rows (see `curate.protocols.RowReweighter`).
    """
    times = state["times"].numpy()
    sums = state["sums"].numpy()
    means = np.divide(sums, times, out=np.full(len(sums), np.nan), where=times > 0)
    return means.astype(np.float32), times


@runtime_checkable
class Reweighter(Protocol):
    """Weights of the examples of one optimizer batch."""

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) detached weights for the b examples of the whole optimizer batch; mean 1 for softmax-type methods.

        The batch loss is sum(w * n * l) / sum(n), n the completion tokens and l the mean losses in nats per token. A
        method that averages rows instead of tokens is a `RowReweighter`.
        """
        ...


@runtime_checkable
class RowReweighter(Reweighter, Protocol):
    """A reweighter that says whether its method averages tokens or the mean losses of rows. Optional; else tokens.

    Of rows: its `weights` are w_i mean(n) / n_i (`curate.training.reweighting.of_rows`), so that the batch loss is the
    mean of w_i l_i over the rows, and w_i, of mean 1 over the rows, is what the record of a run holds.
    """

    averages: Literal["tokens", "rows"]


@runtime_checkable
class BeginningReweighter(Protocol):
    """A reweighter that has to know the run: the model, the rows, a dataset of its own."""

    def begin(self, training: Training) -> Reweighter:
        """What is asked for weights in this run, and may remember. InputError where the run cannot serve it."""
        ...


@runtime_checkable
class EmbeddingReweighter(Reweighter, Protocol):
    """A reweighter that can ask for embeddings of the batch beside its losses. Optional."""

    embeds: bool


@runtime_checkable
class RefreshedReweighter(Reweighter, Protocol):
    """A reweighter that looks at the model between steps. Optional."""

    def refresh(self, step: int) -> None:
        """Called on all ranks before the update that follows `step` updates; weights must be as before at its end.

        Called again where memory ran out in it, with smaller batches: it must not have changed anything by then.
        """
        ...


@runtime_checkable
class RememberingReweighter(Reweighter, Protocol):
    """A reweighter whose past decides its weights: a run that is resumed gives it back. Optional."""

    def state(self) -> dict[str, torch.Tensor]:
        """What it remembers, by name."""
        ...

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        ...
