"""Keep a subset of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from curate.clusterers.features import source_codes
from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.plan import DROPPED, Only, Plan

_NO_SOURCES = "Subset(per='source') needs a source column; name it with --columns source=COLUMN"

Size = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


class Subset(Component):
    """Keep `size` rows and leave out the rest, each with its reason in tables/rejected.

    size: a number of rows, or a share of the valid rows (a float up to 1.0); None = all that `only` and `drop` leave.
    choose:
        balanced: S2L (arXiv 2403.07384): visit the clusters from smallest to largest and take from each
            min(cluster size, rows still wanted / clusters left) rows at random. S2L's code sets clusters of two rows or
            fewer aside and draws from them last, if rows are still wanted; here they are visited first.
        lowest_loss: the rows of lowest final loss, a measure of quality if it is the loss under a model of a
            reference corpus (scorer `ReferenceLoss`; arXiv 2406.14833, strategy II).
        random: the control.
    per: "source" first divides the number of rows over the sources in the same balanced way, then chooses within each.
    epochs, pool: with more than one epoch, `size` rows are redrawn for each from the `pool` rows (a number or a
        share, like `size`) that are chosen as above; the result contains all epochs, one after the other, in files and
        separate splits (arXiv 2406.14833, strategy III: better than the same rows in every epoch, as with pool =
        None). All rows of the pool are seen nearly equally often, none twice in an epoch.
    only: "reducible" keeps only rows that a model learns from the other rows (`curate.difficulty.reducible`), including
        easy ones: shares, sources and clusters then refer to these.
    drop: "irreducible" first leaves out the hard rows that a model does not learn from the other rows, mostly wrong
        ones; shares, sources and clusters refer to the remaining rows. It gained most with 5 to 20 % wrong
        completions, and lost if they were right or cannot be learned: use it only for data in which the lower
        bound of the estimated wrong share is above 5 %, after reading some of them. If it is unknown which rows
        are reducible, `only` and `drop` change nothing, and a warning says so.
    """

    added: ClassVar[frozenset[str]] = frozenset(["epochs", "pool", "only", "drop"])

    size: Size | None = None
    choose: Literal["balanced", "lowest_loss", "random"] = "balanced"
    per: Literal["source"] | None = None
    epochs: int = Field(default=1, ge=1, le=99)
    pool: Size | None = None
    only: Only = None
    drop: Literal["irreducible"] | None = None

    @model_validator(mode="after")
    def _drawn(self) -> Self:
        if self.size is None and ((self.only is None and self.drop is None) or self.epochs > 1):
            raise ValueError("give size, a number of rows or a share of them")
        if self.pool is not None and self.epochs == 1:
            raise ValueError("rows are drawn from a pool for several epochs; set epochs, or leave pool out")
        return self

    def needs_reducible(self) -> bool:
        """See `curate.mixture.plan.Augmenter`."""
        return self.only is not None or self.drop is not None

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError if more rows are asked for than there are, or sources are missing."""
        if isinstance(self.size, int) and self.size > len(examples):
            raise InputError(f"Subset.size = {self.size:,} but the data has {len(examples):,} rows; lower it")
        if self.per == "source" and "source" not in examples.columns:
            raise InputError(_NO_SOURCES)

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Raises InputError if more rows are asked for than are there, or losses or sources are missing."""
        plan.check_one_epoch("Subset")
        generator = np.random.default_rng(seed)
        if self.drop is not None:
            plan = plan.leave_out(split.hard & ~split.allowed("reducible"), DROPPED)
        if self.only is not None:
            plan = plan.leave_out(~split.allowed(self.only), "not reducible (Subset.only)")
        if self.size is None:
            return plan
        pool = np.flatnonzero(plan.planned & split.valid)  # (rows that may be kept,)
        per_epoch = self.size if isinstance(self.size, int) else round(self.size * len(pool))
        if per_epoch > len(pool):
            raise InputError(f"Subset.size = {per_epoch:,} but only {len(pool):,} valid rows are planned; lower it")
        count = per_epoch
        if self.pool is not None:
            count = self.pool if isinstance(self.pool, int) else round(self.pool * len(pool))
            if not per_epoch <= count <= len(pool):
                raise InputError(
                    f"Subset.pool = {count:,} rows; choose from Subset.size ({per_epoch:,}) to the valid rows "
                    f"({len(pool):,})"
                )
        if self.per is None:
            kept = self._choose(pool, count, split, generator)
        else:
            if split.sources is None:
                raise InputError(_NO_SOURCES)
            parts = _balanced(_groups(split.sources[pool]), count)
            kept = np.concatenate([self._choose(pool[rows], share, split, generator) for rows, share in parts])
        outside = plan.planned.copy()
        outside[kept] = False
        plan = plan.leave_out(outside, f"not among the {count:,} rows that Subset(choose='{self.choose}') keeps")
        return plan if self.epochs == 1 else self._in_epochs(plan, kept, per_epoch, generator)

    def _in_epochs(self, plan: Plan, kept: np.ndarray, per_epoch: int, generator: np.random.Generator) -> Plan:
        """Count each kept row once for every epoch that contains it, as evenly as `per_epoch` rows of each allow."""
        if plan.counts.max(initial=0) > 1:
            raise InputError("Subset(epochs=...) draws new rows for every epoch, copies too; leave out Duplicate")
        counts = np.zeros_like(plan.counts)  # (n,)
        most, more = divmod(self.epochs * per_epoch, max(len(kept), 1))
        counts[kept] = most
        counts[generator.choice(kept, more, replace=False)] += 1
        unseen = plan.planned & (counts == 0)
        plan = plan.leave_out(unseen, f"drawn in none of the {self.epochs} epochs of Subset")
        return replace(plan.with_counts(counts), epochs=self.epochs)

    def _choose(self, pool: np.ndarray, count: int, split: Split, generator: np.random.Generator) -> np.ndarray:
        if self.choose == "random":
            return generator.choice(pool, count, replace=False)
        if self.choose == "lowest_loss":
            if split.final_loss is None:
                raise InputError("Subset(choose='lowest_loss') needs losses; use a scorer that records them")
            return pool[np.argsort(split.final_loss[pool], kind="stable")[:count]]
        parts = _balanced(_groups(split.cluster[pool]), count)
        return np.concatenate([generator.choice(pool[rows], share, replace=False) for rows, share in parts])


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """Positions of the rows of each label, in alphabetical order of the labels; rows without a label come last."""
    codes, names = source_codes(labels, len(labels))
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, len(names))))


def _balanced(groups: list[np.ndarray], count: int) -> list[tuple[np.ndarray, int]]:
    """The groups and how many rows to take from each: smallest group first, an equal share of the remaining rows."""
    shares, remaining = [], count
    for visited, rows in enumerate(sorted(groups, key=len)):
        share = min(len(rows), round(remaining / (len(groups) - visited)))
        shares.append((rows, share))
        remaining -= share
    return shares
