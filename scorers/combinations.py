"""Combinations of several scorers into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from curate.component import Component, call_hook, fingerprint
from curate.data.examples import Examples
from curate.difficulty.scores import COUNTS, Scores, as_scores
from curate.errors import InputError
from curate.proxy.measures import Measure
from curate.proxy.proxy import Schedule
from curate.run import Run, Scorer, measures_of, standalone
from curate.types import BoolArray, Float64Array, FloatArray


def _check_scorers(scorers: tuple[Any, ...]) -> tuple[Any, ...]:
    for scorer in scorers:
        if isinstance(scorer, str):
            raise ValueError(f"{scorer!r} is only a name; write {{use: {scorer}}}")
        if isinstance(scorer, type):
            raise ValueError(f"{scorer.__name__} is a class; give an object of it, {scorer.__name__}()")
        if not isinstance(scorer, Scorer):
            raise ValueError(f"{type(scorer).__name__} does not fit: a scorer has a method score(examples, run)")
    return scorers


_Scorers = Annotated[tuple[Any, ...], Field(min_length=1), AfterValidator(_check_scorers)]


class _Combination:
    """Hooks of a scorer that combines `scorers`: the union of what they need of the proxy and the examples."""

    if TYPE_CHECKING:
        scorers: tuple[Any, ...]

    def measures(self) -> Sequence[Measure]:
        """The measures of all scorers without repeats, so that one proxy run is enough."""
        measures = [measure for scorer in self.scorers for measure in measures_of(scorer)]
        return list({fingerprint(measure): measure for measure in measures}.values())

    def check_schedule(self, schedule: Schedule) -> None:
        for scorer in self.scorers:
            call_hook(scorer, "check_schedule", schedule)

    def check_examples(self, examples: Examples) -> None:
        for scorer in self.scorers:
            call_hook(scorer, "check_examples", examples)

    def identity(self) -> list[Any]:
        """Identities of the files that its scorers depend on."""
        return [part for scorer in self.scorers for part in call_hook(scorer, "identity") or ()]

    def pending(self, examples: Examples, run: Run) -> str | None:
        """Work of scorers that train or load their own model; None if there is none. See `ReferenceLoss`."""
        lines = [call_hook(scorer, "pending", examples, run) for scorer in self.scorers]
        return "; ".join(line for line in lines if line) or None

    def _parts(self, examples: Examples, run: Run) -> tuple[list[Scores], BoolArray]:
        """The scores of each scorer, and the rows (n,) that are valid for all."""
        self.check_examples(examples)
        measures = self.measures()
        if measures:
            run.trace(examples, measures)
        parts = [as_scores(scorer.score(examples, run), len(examples)) for scorer in self.scorers]
        return parts, np.logical_and.reduce([part.valid for part in parts])


class RankAverage(_Combination, Component):
    """Mean of the ranks under several scorers, each scaled to [0, 1]; ties share their mean rank.

    Ranks make signals of different units comparable. A row is valid if it is valid for every scorer. Cost: that of its
    scorers; the proxy runs once, and shared measures are taken once.
    weights: one positive number per scorer, or None for equal weights.
    """

    scorers: _Scorers
    weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None

    @field_validator("weights")
    @classmethod
    def _one_each(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        scorers = info.data.get("scorers")
        if value is not None and scorers is not None and len(value) != len(scorers):
            raise ValueError(f"there are {len(scorers)} scorers; give as many weights, not {len(value)}")
        return value

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores with features (n, number of scorers): the scaled ranks."""
        examples, run = standalone(examples, run)
        parts, valid = self._parts(examples, run)
        ranks = np.stack([(_ranks(part, valid) - 1) / max(valid.sum() - 1, 1) for part in parts], axis=1)
        weights = np.asarray(self.weights or (1.0,) * len(parts))
        return _combined(parts, valid, ranks, ranks @ (weights / weights.sum()), examples)


class Product(_Combination, Component):
    """Product of the difficulties of several scorers: high only where all of them are high, unlike a mean.

    of:
        ranks: rank / n, in (0, 1], ties sharing their mean rank. For signals of any unit and sign.
        scores: the difficulties themselves, which must not be negative; as in loss times sharpness, where the unit
            means something.
    A row is valid if it is valid for every scorer. Cost: as `RankAverage`.
    """

    scorers: _Scorers
    of: Literal["ranks", "scores"] = "ranks"

    def score(self, examples: Any, run: Run | None = None) -> Scores:
        """Scores with features (n, number of scorers): the factors.

        Raises InputError for a negative difficulty where scores are multiplied.
        """
        examples, run = standalone(examples, run)
        parts, valid = self._parts(examples, run)
        if self.of == "ranks":
            factors = np.stack([_ranks(part, valid) / max(valid.sum(), 1) for part in parts], axis=1)  # (n, k)
        else:
            for scorer, part in zip(self.scorers, parts, strict=True):
                negative = valid & (part.difficulty < 0)
                if negative.any():
                    row = int(np.flatnonzero(negative)[0])
                    raise InputError(
                        f"{type(scorer).__name__} gives row {row} the difficulty {part.difficulty[row]:g}, and "
                        "products are undefined for negative difficulties; choose Product(of='ranks')"
                    )
            factors = np.stack([np.where(valid, part.difficulty, 0) for part in parts], axis=1)
        return _combined(parts, valid, factors, factors.prod(axis=1), examples)


def _ranks(part: Scores, valid: BoolArray) -> Float64Array:
    """(n,) rank of each valid row among the valid ones, from 1; 1 for the others."""
    from scipy.stats import rankdata

    ranks = np.ones(len(valid))
    ranks[valid] = rankdata(part.difficulty[valid])
    return ranks


def _combined(
    parts: list[Scores],
    valid: BoolArray,
    features: Float64Array,
    difficulty: Float64Array,
    examples: Any,
) -> Scores:
    """Scores with the trajectory of the first scorer that has one; invalid rows get features 0 and difficulty NaN.

    valid: (n,). features: (n, number of scorers). difficulty: (n,).
    """
    with_losses = next((part for part in parts if part.trajectory is not None), None)
    features32: FloatArray = np.where(valid[:, None], features, 0).astype(np.float32)
    return Scores(
        features=features32,
        difficulty=np.where(valid, difficulty, np.nan).astype(np.float32),
        valid=valid,
        trajectory=with_losses.trajectory if with_losses else None,
        steps=with_losses.steps if with_losses else None,
        **{name: getattr(with_losses, name) if with_losses else None for name in COUNTS},
        ids=examples.ids,
    )
