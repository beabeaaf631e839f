"""The plug points. Structural: an object with these methods fits, without a base class or registration.

`curate.checks` holds the contract tests for each; run them on a class of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy.typing as npt

from curate.types import FloatArray

if TYPE_CHECKING:
    import torch

    from curate.examples import Examples
    from curate.generation import Queue
    from curate.plan import Plan, Price, Realized
    from curate.proxy import Schedule
    from curate.proxy_run import ProxyRun
    from curate.reweighting import BatchOutputs, OptimizerBatch, Training
    from curate.run import Run
    from curate.scores import Scores, Split
    from curate.trace import LiveCheckpoint

__all__ = [
    "Augmenter",
    "BeginningReweighter",
    "Clusterer",
    "CostedMeasure",
    "DemandingMeasure",
    "EmbeddingReweighter",
    "Generator",
    "KeyedMeasure",
    "Measure",
    "MeasuringScorer",
    "Preflight",
    "Priced",
    "Readiness",
    "Realizer",
    "RefreshedReweighter",
    "RememberingReweighter",
    "Reweighter",
    "RowReweighter",
    "Scorer",
]


@runtime_checkable
class Scorer(Protocol):
    """Says how late each example is learned."""

    def score(self, examples: Examples, run: Run) -> Scores | npt.NDArray[Any]:
        """`Scores` for the n examples, or a bare (n,) array of difficulties (higher = learned later)."""
        ...


@runtime_checkable
class MeasuringScorer(Scorer, Protocol):
    """A scorer that looks at checkpoints of the proxy.

    It names its measures, so that one proxy run can serve every scorer, and reduces what they found.
    """

    def measures(self) -> Sequence[Measure]:
        """What `score` will ask `run.trace` for."""
        ...

    def check_schedule(self, schedule: Schedule) -> None:
        """Raise InputError where the proxy's checkpoints cannot serve this scorer, naming the remedy."""
        ...


@runtime_checkable
class Measure(Protocol):
    """One number or vector per example at one checkpoint."""

    def measure(self, checkpoint: LiveCheckpoint, examples: Examples) -> FloatArray:
        """(n, d) float32 for the n examples of one shard; NaN rows where the example cannot be measured.

        The checkpoint is lent: weights must be as before when this returns.
        """
        ...


@runtime_checkable
class KeyedMeasure(Measure, Protocol):
    """A measure that looks at more of the examples than a model reads: their final answers, say. Optional."""

    def key_of(self, examples: Examples) -> str:
        """A string that changes when its values may, ids, content and checkpoint being the same; part of the name of
        its values in the cache. Of the other columns it may look at those of a role only."""
        ...


@runtime_checkable
class CostedMeasure(Measure, Protocol):
    """A measure that costs something else than a forward pass per row and checkpoint. Optional."""

    def passes(self, rows: int, checkpoints: int) -> float:
        """Forward passes over a row, those at all checkpoints together; a backward pass counts two, a generated
        completion one. rows: of the dataset, over which is shared what is done once."""
        ...


@runtime_checkable
class DemandingMeasure(Measure, Protocol):
    """A measure that not every proxy can serve. Optional."""

    def check_proxy(self, proxy_run: ProxyRun) -> None:
        """Raise InputError where this one cannot; called before it is trained."""
        ...


@runtime_checkable
class Clusterer(Protocol):
    """scikit-learn's clustering interface; -1 is noise."""

    def fit_predict(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Integer labels (n,) of the rows of X (n, f)."""
        ...


@runtime_checkable
class Augmenter(Protocol):
    """Changes what the dataset will hold. A left fold: each sees the plan so far."""

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """A new plan; free and deterministic, calls no model and reads no data."""
        ...


@runtime_checkable
class Preflight(Protocol):
    """A scorer or augmenter that can tell from the data alone that it will fail. Optional."""

    def check_examples(self, examples: Examples) -> None:
        """Raise InputError where these examples cannot serve; called before anything is scored."""
        ...


@runtime_checkable
class Tokenizing(Protocol):
    """A scorer without measures that may look at the proxy's tokens all the same. Optional."""

    def tokenizes(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class Readiness(Protocol):
    """An augmenter or generator that needs something outside, and can tell early that it is not there. Optional."""

    def check_ready(self) -> None:
        """Raise InputError or ExternalError where it is bound to fail; called before anything is scored."""
        ...


@runtime_checkable
class Realizer(Augmenter, Protocol):
    """An augmenter whose rows are not in the input: it makes them, once, after all plans are folded."""

    def realize(self, plan: Plan, examples: Examples, run: Run) -> Realized:
        """New rows and the rejected ones, each with its reason. May call a model or read other data."""
        ...


@runtime_checkable
class Priced(Realizer, Protocol):
    """A Realizer whose rows cost requests to a model, and that can tell how many beforehand. Optional."""

    def price(self, plan: Plan, examples: Examples, run: Run) -> Price:
        """What `realize` would still ask, at most; asks nothing."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Draws completions from a language model."""

    def identity(self) -> str:
        """Name of the model, with whatever tells two versions of it apart: part of the key of every request kept."""
        ...

    def serve(self, queue: Queue) -> None:
        """Take requests until there are none, hand every completion back as soon as it is there, in any order.

        ExternalError if the model cannot be reached, InputError if it is not the one that was asked for. A request
        that can never be served is done with finish_reason "refused".
        """
        ...


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

    Of rows: its `weights` are w_i mean(n) / n_i (`curate.reweighting.of_rows`), so that the batch loss is the mean of
    w_i l_i over the rows, and w_i, of mean 1 over the rows, is what the record of a run holds.
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
