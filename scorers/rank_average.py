"""Several scorers as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from curate.component import Component
from curate.protocols import Measure, MeasuringScorer, Preflight, Scorer
from curate.run import Run, standalone
from curate.scores import Scores, as_scores

if TYPE_CHECKING:
    from curate.examples import Examples
    from curate.proxy import Schedule

__all__ = ["RankAverage"]


class RankAverage(Component):
    """Mean of the ranks that several scorers give, each scaled to [0, 1]; ties share their mean rank.

    Ranks make signals of different units comparable. A row is valid where every scorer says so.
    weights: one positive number per scorer, or None for equal weights.
    """

    scorers: tuple[Any, ...] = Field(min_length=1)
    weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None

    @field_validator("scorers")
    @classmethod
    def _score(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for scorer in value:
            if isinstance(scorer, str):
                raise ValueError(f"{scorer!r} is only a name; write {{use: {scorer}}}")
            if isinstance(scorer, type):
                raise ValueError(f"{scorer.__name__} is a class; give an object of it, {scorer.__name__}()")
            if not isinstance(scorer, Scorer):
                raise ValueError(f"{type(scorer).__name__} does not fit: a scorer has a method score(examples, run)")
        return value

    @field_validator("weights")
    @classmethod
    def _one_each(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        scorers = info.data.get("scorers")
        if value is not None and scorers is not None and len(value) != len(scorers):
            raise ValueError(f"there are {len(scorers)} scorers; give as many weights, not {len(value)}")
        return value

    def _measuring(self) -> list[MeasuringScorer]:
        return [scorer for scorer in self.scorers if isinstance(scorer, MeasuringScorer)]

    def measures(self) -> Sequence[Measure]:
        """Everything its scorers measure; the proxy runs once for all."""
        return [measure for scorer in self._measuring() for measure in scorer.measures()]

    def check_examples(self, examples: Examples) -> None:
        for scorer in self.scorers:
            if isinstance(scorer, Preflight):
                scorer.check_examples(examples)

    def check_schedule(self, schedule: Schedule) -> None:
        for scorer in self._measuring():
            scorer.check_schedule(schedule)

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores with features (n, number of scorers): the scaled ranks."""
        from scipy.stats import rankdata

        examples, run = standalone(examples, run)
        self.check_examples(examples)
        n = len(examples)
        weights = np.asarray(self.weights or (1.0,) * len(self.scorers))
        if self.measures():
            run.trace(examples, self.measures())
        parts = [as_scores(scorer.score(examples, run), n) for scorer in self.scorers]
        valid = np.logical_and.reduce([part.valid for part in parts])
        ranks = np.zeros((n, len(parts)), np.float32)
        for column, part in enumerate(parts):
            place = rankdata(part.difficulty[valid])
            ranks[valid, column] = (place - 1) / max(len(place) - 1, 1)
        difficulty = np.where(valid, ranks @ (weights / weights.sum()), np.nan).astype(np.float32)
        with_losses = next((part for part in parts if part.trajectory is not None), None)
        return Scores(
            features=ranks,
            difficulty=difficulty,
            valid=valid,
            trajectory=with_losses.trajectory if with_losses else None,
            steps=with_losses.steps if with_losses else None,
            tokens=with_losses.tokens if with_losses else None,
            ids=examples.ids,
        )
