"""Pre-memorization accuracy: how often a model solves an example before it memorizes the example's solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from curate.component import Component, Consent, call_hook
from curate.data.examples import Examples
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.graders import Tests
from curate.proxy.measures import MeanLoss, Measure
from curate.proxy.proxy import Schedule
from curate.recipe import grader_from
from curate.run import Run, standalone
from curate.types import Float64Array
from scorers.row_graders import references_of, verifiable
from scorers.sampled_accuracy import SampledAccuracy

_BLOCK = 1024  # rows graded at a time while looking for the first that can be graded


def masked_accuracy(accuracy: npt.ArrayLike, nll: npt.ArrayLike, threshold: float) -> Float64Array:
    """Accuracies (K, n), with 0 where an example was memorized: ln ln perplexity < threshold, nll < e^threshold.

    nll: (K, n) mean negative log-likelihood of the worked solution, nats per token. NaN of either stays NaN.
    """
    accuracy, nll = np.asarray(accuracy, np.float64), np.asarray(nll, np.float64)
    if accuracy.shape != nll.shape or accuracy.ndim != 2:
        raise InputError(f"accuracy has shape {accuracy.shape} and nll {nll.shape}; give both as (epochs, examples)")
    return np.where(np.isnan(nll), np.nan, np.where(nll < np.exp(threshold), 0.0, accuracy))


def pre_memorization_accuracy(accuracy: npt.ArrayLike, nll: npt.ArrayLike, threshold: float) -> Float64Array:
    """(K, n) accuracy before memorization at K checkpoints, one per epoch (arXiv 2411.07681).

    PreMem[m] = min(max over m' <= m of masked[m'], accuracy[m]), with the arguments of `masked_accuracy`. So an
    example that is memorized from the first epoch on has 0.
    """
    best = np.maximum.accumulate(masked_accuracy(accuracy, nll, threshold), axis=0)
    return np.minimum(best, np.asarray(accuracy, np.float64))


class PreMemorizationAccuracy(Component):
    """Accuracy of sampled answers before an example is memorized (Kang et al., arXiv 2411.07681).

    Difficulty is 1 - PreMem at the last epoch: rows that were never solved, or only recited, are hard. Features are
    PreMem at the K epochs, see `pre_memorization_accuracy`. The proxy needs a checkpoint after every epoch.

    threshold: p in "memorized if ln ln perplexity < p"; the loss of the row's completion, EOS included, is used
        as ln perplexity. -2.3, a loss below 0.1 nats per token, is the paper's value for GSM8K; it uses -1.7 for MATH.
        It depends on task and model; trying another value costs nothing, since samples are cached.
    samples, temperature, top_p, max_tokens, batch_size, grader: see `SampledAccuracy`; defaults as in the paper.
    run_programs: run programs of the proxy in a sandbox, to grade rows with tests. Off by default: this executes
        code from the data and from the model.

    The paper averages over a training set, for the model that is fine-tuned; here each row's value is its easiness, and
    the model is the proxy. Prompts follow the proxy's template, not the paper's "Answer:".

    Cost: `samples` generations per example and epoch, far more than a loss: 5 x 3 epochs x 7,500 rows of GSM8K are
    112,500 completions. Rows without an answer to grade by are invalid.
    """

    threshold: float = Field(default=-2.3, allow_inf_nan=False)
    samples: int = Field(default=5, ge=1)
    temperature: float = Field(default=0.8, gt=0, allow_inf_nan=False)
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1)
    batch_size: int = Field(default=64, ge=1)
    grader: Any = None
    run_programs: bool = Field(default=False, description="run programs of the model, in a sandbox, to grade them")
    added: ClassVar[frozenset[str]] = frozenset(["grader", "run_programs"])
    consents: ClassVar[Mapping[str, Consent]] = {"run_programs": Consent(("--run-programs",))}

    @field_validator("grader", mode="before")
    @classmethod
    def _is_grader(cls, grader: Any) -> Any:
        return grader_from(grader, "grader")

    @model_validator(mode="after")
    def _asked(self) -> Self:
        if getattr(self.grader, "runs_programs", False) and not self.run_programs:
            raise ValueError(f"grader {type(self.grader).__name__} runs programs; set run_programs: true too")
        return self

    def measures(self) -> Sequence[Measure]:
        return [self._sampled(), MeanLoss()]

    def _sampled(self) -> SampledAccuracy:
        return SampledAccuracy(**{name: getattr(self, name) for name in SampledAccuracy.model_fields})

    def check_schedule(self, schedule: Schedule) -> None:
        """Raises InputError unless checkpoint k falls on the end of epoch k."""
        schedule.check_known("PreMemorizationAccuracy")
        steps, per_epoch = schedule.steps, schedule.steps_per_epoch
        k = len(steps)
        if steps.tolist() != np.round(round(k * per_epoch) * np.arange(1, k + 1) / k).astype(int).tolist():
            whole_epochs = max(1, min(k, round(float(schedule.epochs[-1]))))
            raise InputError(
                "PreMemorizationAccuracy needs a checkpoint after every whole epoch, but the proxy is looked at after "
                f"{', '.join(f'{epoch:.3g}' for epoch in schedule.epochs[:6])} epochs; set proxy.steps to "
                f"'{whole_epochs} epochs', proxy.checkpoints to {whole_epochs} and proxy.min_steps to 1"
            )

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError if no row can be sampled and graded."""
        if examples.shape == "text":
            raise InputError(
                "PreMemorizationAccuracy draws answers to prompts, and rows of text alone have none; give the data as "
                "prompt and completion, or choose LossTrajectory"
            )
        sampled = self._sampled()
        for grader in sampled.graders():
            if self.grader is not None or (isinstance(grader, Tests) and any(references_of(grader, examples))):
                call_hook(grader, "check")
        starts = range(0, len(examples), _BLOCK)
        blocks = (examples.slice(low, min(low + _BLOCK, len(examples))) for low in starts)
        if any(any(verifiable(block, sampled.graders(), answers=self.grader is None)) for block in blocks):
            return
        if self.grader is not None:
            raise InputError(
                f"grader {type(self.grader).__name__} finds right none of the {len(examples):,} rows' own completions; "
                "name another grader"
            )
        if not self.run_programs and any(references_of(Tests(), examples.slice(0, min(_BLOCK, len(examples))))):
            raise InputError(
                "PreMemorizationAccuracy grades rows with tests by running programs, which needs permission; set "
                "run_programs: true in its recipe and pass --run-programs, or choose LossTrajectory"
            )
        raise InputError(
            f"none of the {len(examples):,} rows has a final answer that its own completion is graded right "
            "against; name the column of final answers with --columns final_answer=COLUMN, or choose LossTrajectory"
        )

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores of n examples with features (n, K); the trajectory is that of the loss."""
        examples, run = standalone(examples, run)
        self.check_examples(examples)
        self.check_schedule(run.proxy.schedule(len(examples)))  # fail before training
        trace = run.trace(examples, self.measures())
        self.check_schedule(trace.schedule)
        accuracy, loss = trace.scalars(self.measures()[0]), trace.losses  # (n, K) each
        valid = trace.valid & np.isfinite(accuracy).all(axis=1)  # (n,)
        if not np.isfinite(loss[valid]).all():
            row = int(np.flatnonzero(valid & ~np.isfinite(loss).all(axis=1))[0])
            row_text = f"row {row} (id {examples.ids[row].as_py()})"
            raise InputError(f"the loss of {row_text} is not finite; lower proxy.learning_rate")
        left_out = int((trace.valid & ~valid).sum())
        if left_out:
            run.progress.note(f"{left_out:,} of {len(examples):,} rows have no answer to grade by and are not scored")
        solved = pre_memorization_accuracy(accuracy.T, loss.T, self.threshold).T
        return Scores(
            features=np.where(valid[:, None], solved, 0).astype(np.float32),
            difficulty=np.where(valid, 1 - solved[:, -1], np.nan).astype(np.float32),
            valid=valid,
            trajectory=loss,
            steps=trace.schedule.steps,
            tokens=trace.tokens,
            ids=examples.ids,
        )
