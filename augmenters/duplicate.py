"""Duplicate hard rows, or control rows in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from curate.component import Component
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.control_rows import Control, stand_ins
from curate.mixture.plan import NOISE_GUARD, Only, Plan
from curate.seeds import derive_seed


def _number_or_auto(value: Any) -> Any:
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"{value!r} is not a number of copies; give a whole number from 1, or auto")
    return value


Times = Annotated[Annotated[int, Field(ge=1, lt=1000)] | Literal["auto"], BeforeValidator(_number_or_auto)]


class Duplicate(Component):
    """Extra copies of the hard rows (arXiv 2602.00576; the upsampling of USEFUL, arXiv 2404.17768).

    times: EXTRA copies, so 1 shows a row twice per epoch; under 1,000. "auto" = the forecast for the fine-tuning
        described by the pipeline's `forecast`: the smallest number whose lower bound of the predicted effect is a gain,
        else none (`curate.mixture.verdicts`). `forecast.times` in run.json is how often hard rows then occur, so no
        other augmenter may copy them beside it. Such forecasts have not been shown to be useful.
    cap: maximum number of extra rows, as a share of the rows planned so far; beyond it a seeded sample of the hard rows
        is copied. None = no cap.
    noise_guard: share of the hard rows, those of highest final loss, that get no copies. 0 = off, as in the paper.
        They may be mislabeled, or they may be the rarest rows, which the method is for. In a study of frequent and rare
        skills (hard rows shown three times, change of nats per token, sd over seeds) a guard of 0.2 turned -58 % [12]
        into +31 % [66] on clean data, and with 5, 10 and 20 % wrong answers +48, +64 and +71 % into +17, +40 and +51 %,
        which is not a cure either: `only` replaces it. It is kept for existing recipes.
    of: "hard"; or a control that copies exactly as many other rows instead, see `curate.mixture.control_rows`:
        "easy" ones, any ("random"), ones that are not hard but "matched" in source and length, or those of highest
        "final_loss".
    only: "reducible" copies only rows that a model learns from the other rows (`curate.difficulty.reducible`), neither
        wrong rows nor rows that no other row teaches. `cap` and the size of a control refer to the remaining rows, and
        a control consists of reducible rows too. If it is unknown which rows are reducible, it changes nothing and a
        warning says so. Takes two more proxies, each up to four times as long: see `curate plan`.
    draw: another number draws another random control.
    """

    version: ClassVar[int] = 2
    added: ClassVar[frozenset[str]] = frozenset(["only"])
    superseded: ClassVar[Mapping[str, str]] = {"noise_guard": NOISE_GUARD}

    times: Times = 1
    of: Literal["hard"] | Control = "hard"
    cap: float | None = Field(default=None, gt=0)
    noise_guard: float = Field(default=0.0, ge=0, lt=1)
    only: Only = None
    draw: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_filter(self) -> Self:
        if self.only is not None and self.noise_guard:
            raise ValueError("only: reducible takes the place of noise_guard; give one of them")
        return self

    def needs_reducible(self) -> bool:
        """See `curate.mixture.plan.Augmenter`."""
        return self.only is not None

    def with_copies(self, extra: int) -> Duplicate:
        """The same with `times` extra copies in place of "auto"; 0 copies nothing."""
        return self.model_copy(update={"times": extra})

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Raises InputError if `only`, the noise guard or a control needs values that were not measured."""
        plan.check_one_epoch("Duplicate")
        if self.times == "auto":
            raise InputError(
                "Duplicate(times='auto') takes its number from a forecast; run it in a Pipeline with "
                'forecast={"steps": N, "model": MODEL}, or give a number'
            )
        if not self.times:
            return plan
        generator = np.random.default_rng(seed)
        rows = plan.choose("hard", split, generator, self.only)
        plan = plan.mark_suspects(rows, split, self.noise_guard, "Duplicate.noise_guard")
        rows = plan.trusted(rows)
        if self.cap is not None:
            most = int(self.cap * int(plan.counts.sum())) // self.times
            if len(rows) > most:
                rows = np.sort(generator.choice(rows, most, replace=False))  # (most,)
        if self.of != "hard":
            rng = np.random.default_rng(derive_seed(seed, "control", self.draw))
            rows = stand_ins(self.of, rows, split, plan.planned & split.allowed(self.only), rng)
        counts = plan.counts.copy()
        np.add.at(counts, rows, self.times)  # rows may repeat, if the pool is small
        return plan.with_counts(counts)
