"""Reference loss: how unlike a reference corpus of good rows an example is."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from curate.component import Component
from curate.data.examples import Examples
from curate.data.readers import read_for
from curate.dataset_reference import GivenData
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.models.loading import identify
from curate.models.scratch import SCRATCH
from curate.proxy.proxy import Proxy
from curate.run import Run, standalone

# Settings of the run's proxy that affect a loss, besides the model.
_SCORING = ("max_length", "template", "supervise", "precision")


class ReferenceLoss(Component):
    """Loss under a model of a reference corpus: low = like the corpus (arXiv 2406.14833, strategy II).

    The paper uses the perplexity under an n-gram model of a medical corpus as a measure of quality, lowest first
    (`Subset(choose="lowest_loss")`). A proxy trained on the data itself would not do: it gives frequent rows a low
    loss, good or not. This does not measure what is learned late, since nothing is trained on the rows.

    model: hub id, folder or GGUF file of a model that knows the corpus, used without training.
    reference: rows of the corpus, on which the run's proxy is trained instead of on the data; the rows are then scored
        at its checkpoints. They may have another shape, such as text. Give either model or reference.
    Features are the last loss in nats per completion token, difficulty the same.
    """

    model: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    reference: GivenData | None = None

    @model_validator(mode="after")
    def _one(self) -> ReferenceLoss:
        if (self.model is None) == (self.reference is None):
            raise ValueError(
                "give it with --set scorer.reference=DATA, rows to train the proxy on, or with --set "
                "scorer.model=MODEL, one that knows such rows; one of the two"
            )
        if self.model == SCRATCH:
            raise ValueError("a model from scratch has random weights and knows no corpus; name another model")
        return self

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError if the reference is missing, cannot be read, or is the data itself."""
        if self.model is not None:
            identify(self.model, self.revision)
            return
        if self._corpus().fingerprint() == examples.fingerprint():
            raise InputError(
                f"ReferenceLoss.reference {self._name} is the data itself, so its frequent rows would count as "
                "good; name rows that you know to be good"
            )

    def identity(self) -> list[Any]:
        """Identity of the model's files, or fingerprint of the corpus."""
        return [identify(self.model, self.revision)] if self.model is not None else [self._corpus().fingerprint()]

    def pending(self, examples: Examples, run: Run) -> str | None:
        """The work of scoring these, for an estimate; None if the cache has the result."""
        corpus, proxy = self._parts(run)
        if run.knows_reference(examples, corpus, proxy):
            return None
        if corpus is None:
            return f"{len(examples):,} rows under {self.model}"
        schedule = proxy.schedule(len(corpus))
        most = "" if schedule.settled else "at most "
        return (
            f"a proxy is trained for {most}{int(schedule.steps[-1]):,} steps on {len(corpus):,} rows of {self._name}, "
            f"and {len(examples):,} rows are measured at {len(schedule.steps)} of its checkpoints"
        )

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, 1). Raises InputError as `check_examples`."""
        examples, run = standalone(examples, run)
        self.check_examples(examples)
        corpus, proxy = self._parts(run)
        trace = run.reference_trace(examples, corpus, proxy)
        return trace.to_scores(trace.losses[:, -1:], what="reference loss")

    def _parts(self, run: Run) -> tuple[Examples | None, Proxy]:
        """The corpus and the proxy to train on it; or None and the model to use without training."""
        if self.model is None:
            return self._corpus(), run.proxy
        scoring = {name: getattr(run.proxy, name) for name in _SCORING}
        model_fields = {name: getattr(self, name) for name in ("model", "revision", "trust_remote_code")}
        return None, Proxy(**model_fields, **scoring)

    def _corpus(self) -> Examples:
        assert self.reference is not None
        return read_for("ReferenceLoss", "reference", self.reference.data, **self.reference.reading).examples

    @property
    def _name(self) -> str:
        return "" if self.reference is None else self.reference.name
