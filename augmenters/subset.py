"""Keep a subset of the rows."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from curate.clusterers.features import source_codes
from curate.component import Component
from curate.data.examples import Examples
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.mixture.plan import Plan

_NO_SOURCES = "Subset(per='source') needs a source column; name it with --columns source=COLUMN"

Size = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


class Subset(Component):
    """Keep `size` rows and leave out the rest, each with its reason in tables/rejected.

    size: a number of rows, or a share of the valid rows (a float up to 1.0).
    choose:
        balanced: S2L (arXiv 2403.07384): visit the clusters from the smallest up and take from each
            min(cluster size, rows still wanted / clusters left) rows at random. S2L's code sets clusters of two rows or
            fewer aside and draws from them last, if rows are still wanted; here they are the first to be visited.
        lowest_loss: the rows of lowest final loss, as a measure of quality where that is the loss under a model of a
            reference corpus (scorer `ReferenceLoss`; arXiv 2406.14833, strategy II).
        random: the control.
    per: "source" first shares the rows out over the sources in the same balanced way, then chooses inside each.
    """

    size: Size
    choose: Literal["balanced", "lowest_loss", "random"] = "balanced"
    per: Literal["source"] | None = None

    def check_examples(self, examples: Examples) -> None:
        """Raises InputError where more rows are asked for than there are, or sources are missing."""
        if isinstance(self.size, int) and self.size > len(examples):
            raise InputError(f"Subset.size = {self.size:,} but the data has {len(examples):,} rows; lower it")
        if self.per == "source" and "source" not in examples.columns:
            raise InputError(_NO_SOURCES)

    def plan(self, plan: Plan, split: Split, seed: int) -> Plan:
        """Raises InputError where more rows are asked for than are there, or losses or sources are missing."""
        generator = np.random.default_rng(seed)
        pool = np.flatnonzero(plan.planned & split.valid)
        wanted = self.size if isinstance(self.size, int) else round(self.size * len(pool))
        if wanted > len(pool):
            raise InputError(f"Subset.size = {wanted:,} but only {len(pool):,} valid rows are planned; lower it")
        if self.per is None:
            kept = self._choose(pool, wanted, split, generator)
        else:
            if split.sources is None:
                raise InputError(_NO_SOURCES)
            parts = _balanced(_groups(split.sources[pool]), wanted)
            kept = np.concatenate([self._choose(pool[rows], share, split, generator) for rows, share in parts])
        outside = plan.planned.copy()
        outside[kept] = False
        return plan.leave_out(outside, f"not among the {wanted:,} rows that Subset(choose='{self.choose}') keeps")

    def _choose(self, pool: np.ndarray, wanted: int, split: Split, generator: np.random.Generator) -> np.ndarray:
        if self.choose == "random":
            return generator.choice(pool, wanted, replace=False)
        if self.choose == "lowest_loss":
            if split.final_loss is None:
                raise InputError("Subset(choose='lowest_loss') needs losses; use a scorer that records them")
            return pool[np.argsort(split.final_loss[pool], kind="stable")[:wanted]]
        parts = _balanced(_groups(split.cluster[pool]), wanted)
        return np.concatenate([generator.choice(pool[rows], share, replace=False) for rows, share in parts])


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """Positions of the rows of each label, in the order of the labels as text; last those without a label."""
    codes, names = source_codes(labels, len(labels))
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, len(names))))


def _balanced(groups: list[np.ndarray], wanted: int) -> list[tuple[np.ndarray, int]]:
    """The groups and how many to take from each: from the smallest up, an equal share of what is still wanted."""
    shares, left = [], wanted
    for visited, rows in enumerate(sorted(groups, key=len)):
        share = min(len(rows), round(left / (len(groups) - visited)))
        shares.append((rows, share))
        left -= share
    return shares
