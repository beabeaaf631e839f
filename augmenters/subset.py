"""Keep only some rows."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from curate.component import Component
from curate.errors import InputError
from curate.plan import Plan
from curate.scores import Split

__all__ = ["Subset"]

Size = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


class Subset(Component):
    """Keep `size` rows and leave out the rest, each with its reason in tables/rejected.

    size: a number of rows, or a share of the valid rows (a float up to 1.0).
    choose:
        balanced: S2L (arXiv 2403.07384): visit the clusters from the smallest up and take from each
            min(cluster size, rows still wanted / clusters left) rows at random.
        lowest_loss: the rows of lowest final loss, as a measure of quality.
        random: the control.
    per: "source" first shares the rows out over the sources in the same balanced way, then chooses inside each.
    """

    size: Size
    choose: Literal["balanced", "lowest_loss", "random"] = "balanced"
    per: Literal["source"] | None = None

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
                raise InputError("Subset(per='source') needs a source column; name it with --columns source=COLUMN")
            groups = _groups(split.sources[pool])
            kept = np.concatenate(
                [
                    self._choose(pool[groups[name]], share, split, generator)
                    for name, share in _balanced({name: len(rows) for name, rows in groups.items()}, wanted)
                ]
            )
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
        groups = _groups(split.cluster[pool])
        parts = [
            generator.choice(pool[groups[name]], share, replace=False)
            for name, share in _balanced({name: len(rows) for name, rows in groups.items()}, wanted)
        ]
        return np.concatenate(parts)


def _groups(labels: np.ndarray) -> dict[str, np.ndarray]:
    """label -> positions, in the order of the labels."""
    names, inverse = np.unique(labels.astype(str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(names) + 1))
    return {str(name): order[bounds[k] : bounds[k + 1]] for k, name in enumerate(names)}


def _balanced(sizes: dict[str, int], wanted: int) -> list[tuple[str, int]]:
    """How many to take from each group: from the smallest up, an equal share of what is still wanted."""
    shares, left = [], wanted
    for visited, (name, size) in enumerate(sorted(sizes.items(), key=lambda item: (item[1], item[0]))):
        share = min(size, round(left / (len(sizes) - visited)))
        shares.append((name, share))
        left -= share
    return shares
