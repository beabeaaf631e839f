"""Online reweighting: the protocol of reweighters, their inputs, and their state in a training run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from curate import models
from curate.errors import DataWarning, InputError
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

    from curate.models.batches import Batch


@dataclass(frozen=True)
class OptimizerBatch:
    """The b examples of one whole optimizer batch, of all micro-batches and ranks.

    step: optimizer updates done before this one.
    tokens: (b,) int64 completion tokens of each.
    rows: (b,) int64 positions in the training data; None in a loop without them.
    """

    step: int
    tokens: torch.Tensor
    rows: torch.Tensor | None = None

    def known_rows(self, wanted_by: str) -> torch.Tensor:
        """(b,) `rows`, on the CPU. Raises InputError in a loop without them."""
        if self.rows is None:
            raise InputError(
                f"{wanted_by} weights rows by their position in the training data; pass these positions to "
                "OptimizerBatch as rows"
            )
        return self.rows.cpu()


@dataclass(frozen=True)
class BatchOutputs:
    """Outputs of the model for the b examples, at the weights before the update; detached.

    losses: (b,) float32 mean nats per completion token.
    embeddings: (b, d) float32, see `curate.models.embeddings`; only for a reweighter with `embeds`.
    """

    losses: torch.Tensor
    embeddings: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainingRows:
    """Columns of the n training rows, and how to tokenize a further dataset as they were.

    columns: name -> (n,) values of that column of the data.
    source: name of the column with the source of each row, where the data has one.
    tokenize: tokens of a further dataset: any input of `curate.read`, and its options.
    """

    columns: Mapping[str, Sequence[Any]]
    source: str | None = None
    tokenize: Callable[[Any, Mapping[str, Any]], Tokens] | None = None
    tokenise: InitVar[Callable[[Any, Mapping[str, Any]], Tokens] | None] = None  # the former name; warns

    def __post_init__(self, tokenise: Callable[[Any, Mapping[str, Any]], Tokens] | None) -> None:
        if tokenise is None:
            return
        if self.tokenize is not None:
            raise InputError("tokenise and tokenize are the same argument; give tokenize alone")
        warnings.warn("TrainingRows(tokenise=...) is called tokenize now; rename it", DataWarning, stacklevel=3)
        object.__setattr__(self, "tokenize", tokenise)

    def column(self, name: str, wanted_by: str) -> npt.NDArray[Any]:
        """(n,) object values. Raises InputError if there is no such column."""
        if name not in self.columns:
            column_names = ", ".join(self.columns) or "none"
            raise InputError(
                f"{wanted_by} reads column {name!r}, which the data does not have; its columns: {column_names}"
            )
        values = np.empty(len(self.columns[name]), object)
        values[:] = list(self.columns[name])
        return values

    def tokens_of(self, data: Any, reading: Mapping[str, Any], wanted_by: str) -> Tokens:
        """Valid rows of a further dataset, tokenized like the training rows. InputError if there are none."""
        if self.tokenize is None:
            raise InputError(f"{wanted_by} reads its own dataset; pass TrainingRows with tokenize to the loop")
        tokens = self.tokenize(data, reading)
        valid = np.flatnonzero(tokens.valid)  # (valid rows,)
        if len(valid) == 0:
            raise InputError(
                f"{wanted_by}: none of the {len(tokens)} rows has completion text left in the context; give rows that "
                "have an answer, or raise max_length"
            )
        return tokens.take(valid)


NO_ROWS = TrainingRows({})


@dataclass(frozen=True)
class Training:
    """The run that a reweighter is part of, the same on all ranks.

    tokens: of the n training rows. rows: their columns. batch_size: rows per optimizer step. seed: of the run. half:
    whether it computes in bfloat16 autocast. make_batch: a model batch of some rows of some tokens. budget: most
    tokens per forward pass. steps: optimizer steps of the whole run, known once it has begun; None if it has no
    known end.
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
    steps: Callable[[], int] | None = None

    def gradient(self, tokens: Tokens) -> list[torch.Tensor]:
        """Gradient of the mean loss per completion token over valid rows of `tokens`; see `curate.models.gradients`.

        One tensor per trainable parameter, in the model's order. All ranks must call it; they divide the rows.
        """
        return models.mean_gradient(self.model, tokens, **self._forward_options())

    def embeddings(self, tokens: Tokens) -> torch.Tensor:
        """(n, d) float32 embeddings of the rows of `tokens` at the current weights, in eval mode."""
        return models.embeddings_of(self.model, tokens, **self._forward_options())

    def _forward_options(self) -> dict[str, Any]:
        return {"device": self.device, "half": self.half, "budget": self.budget(), "make_batch": self.make_batch}


@runtime_checkable
class Reweighter(Protocol):
    """Weights of the examples of one optimizer batch. One method; the rest are optional hooks, used if present.

    `begin(training: Training) -> Reweighter`: for a reweighter that needs the run: the model, the rows, a dataset of
        its own. Returns what is called for weights in this run, which may keep state and has the hooks below. Raises
        InputError if the run does not provide what it needs.
    `averages: Literal["tokens", "rows"]`: what the method averages; "tokens" where it is missing. With "rows" its
        `weights` are w_i mean(n) / n_i (`curate.training.reweighting.of_rows`), so that the batch loss is the mean of
        w_i l_i over the rows, and w_i, of mean 1 over the rows, is what the record of a run holds.
    `embeds: bool`: whether `BatchOutputs.embeddings` is wanted.
    `refresh(step: int) -> None`: evaluates the model between steps. Called on all ranks before the update that follows
        `step` updates; the weights must be unchanged at its end. Called again with smaller batches where it ran out of
        memory; it must not have changed anything by then.
    `state() -> dict[str, torch.Tensor]` and `load_state(state)`: what it remembers, by name, and its way back into a
        resumed run.
    """

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) detached weights for the b examples of the whole optimizer batch; mean 1 for softmax-type methods.

        The batch loss is sum(w * n * l) / sum(n), n the completion tokens and l the mean losses in nats per token.
        """
        ...


class ReweightingState:
    """A reweighter in a run over n rows: called once per optimizer step, its weights recorded per row.

    training: makes the argument of the hook `begin`; not called without one. reweighter: as it was passed. live: what
    it began as. embeds, averages: its hooks, see `Reweighter`. sums, times: (n,) sum of each row's weights, in the
    unit of `averages`, and how many steps drew it.
    """

    def __init__(self, reweighter: Any, training: Callable[[], Training], n: int, *, sharded: bool = False) -> None:
        import torch

        begin = getattr(reweighter, "begin", None)
        self.live = reweighter if begin is None else begin(training())
        if not isinstance(self.live, Reweighter):
            raise InputError(
                f"{type(reweighter).__qualname__} does not fit: a reweighter has a method weights(batch, outputs)"
            )
        self.reweighter = reweighter
        self.embeds = bool(getattr(self.live, "embeds", False))
        self.averages: Literal["tokens", "rows"] = getattr(self.live, "averages", "tokens")
        self._refresh: Callable[[int], None] | None = getattr(self.live, "refresh", None)
        if sharded and (self.embeds or self._refresh is not None):
            raise InputError(
                f"{type(reweighter).__qualname__} needs the whole model, which no rank has if it is sharded; use a "
                "reweighter that uses only losses or columns, or leave sharding out"
            )
        self.sums = torch.zeros(n, dtype=torch.float64)
        self.times = torch.zeros(n, dtype=torch.int64)

    def refresh(self, step: int) -> None:
        """Run the hook `refresh` before the update that follows `step` updates. Runs on every rank."""
        if self._refresh is not None:
            self._refresh(step)

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        """(b,) finite weights of the batch loss, detached; those of the method are added to the record of the rows.

        Raises InputError if the reweighter returns anything else.
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
        """The state that a resumed run needs, by name."""
        own = self.live.state() if self._remembers else {}
        return {"sums": self.sums, "times": self.times} | {f"own/{name}": tensor for name, tensor in own.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Resume from a result of `state`."""
        self.sums, self.times = state["sums"].clone(), state["times"].clone()
        if self._remembers:
            own_state = {name.removeprefix("own/"): tensor for name, tensor in state.items() if name.startswith("own/")}
            self.live.load_state(own_state)

    @property
    def _remembers(self) -> bool:
        return None not in (getattr(self.live, "state", None), getattr(self.live, "load_state", None))


def of_rows(weights: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(b,) w_i mean(n) / n_i: with these, a loss that averages tokens is the mean of w_i l_i over the rows.

    weights: (b,) w. tokens: (b,) completion tokens n of the whole optimizer batch, of all micro-batches and ranks.
    """
    return weights / _sizes(tokens).to(weights)


def _sizes(tokens: torch.Tensor) -> torch.Tensor:
    """(b,) float32 completion tokens of each row over their mean; a row without any counts as one of one token."""
    return tokens.clamp_min(1).float() / tokens.float().mean()


def mean_weights(state: Mapping[str, torch.Tensor]) -> tuple[FloatArray, IntArray]:
    """(n,) mean weight of every row over the steps that drew it (NaN where none did), and (n,) how many did.

    Weights are the method's own w, also where it averages rows (see `Reweighter`).
    """
    times = state["times"].numpy()
    sums = state["sums"].numpy()
    means = np.divide(sums, times, out=np.full(len(sums), np.nan), where=times > 0)
    return means.astype(np.float32), times
