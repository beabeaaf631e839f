"""Control rows: drawn in place of hard rows, to separate their effect from that of more rows.

Every control is as large as what it is compared with: as many rows, each as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from curate.clusterers.features import source_codes
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.types import BoolArray, IntArray

Rows = IntArray
Mask = BoolArray

# "random" rows may be hard, as any row may: it is the control for more rows. "matched" ones are not hard, but from the
# same sources and as long: the control for what else sets hard rows apart. "final_loss" are hard by the last
# checkpoint alone: the control for the trajectory.
Control = Literal["easy", "random", "matched", "final_loss"]


def evened(sources: Sequence[str], copies: int, seed: int) -> IntArray:
    """(n,) extra copies of rows, so many in all, that make the sources as equal as they can.

    Copies go to the smallest source until it is as large as the next one, and so on; within a source all rows are
    copied equally often, the rest being drawn.
    """
    names, index = np.unique(np.array(sources, object).astype(str), return_inverse=True)
    sizes = np.bincount(index, minlength=len(names))
    given = _filled(sizes, copies) - sizes  # (s,)
    generator = np.random.default_rng(seed)
    extra = np.zeros(len(index), np.int64)
    for source, count in enumerate(given.tolist()):
        members = np.flatnonzero(index == source)
        whole, rest = divmod(count, len(members))
        extra[members] += whole
        extra[generator.choice(members, rest, replace=False)] += 1
    return extra


def _filled(sizes: IntArray, copies: int) -> IntArray:
    """(s,) sizes after `copies` were given to the smallest, one after the other."""
    order = np.argsort(sizes, kind="stable")
    ordered = sizes[order].astype(np.int64)
    below = 1
    while below < len(ordered) and (ordered[below] - ordered[:below]).sum() <= copies:
        below += 1
    level, rest = divmod(int(ordered[:below].sum()) + copies, below)
    ordered[:below] = level
    ordered[:rest] += 1
    filled = np.empty_like(ordered)
    filled[order] = ordered
    return filled


def stand_ins(of: Control, rows: Rows, split: Split, planned: Mask, generator: np.random.Generator) -> Rows:
    """Sorted positions (m,) of the rows of a control that stand in for the m hard rows at `rows`.

    planned: (n,) bool, rows that may be chosen.
    of:
        easy: drawn from the valid rows that are not hard.
        random: drawn from all valid rows, hard ones included.
        matched: for each hard row one of the same source that is not hard, of the nearest number of completion tokens.
            For a source where every row is hard, rows of any source serve.
        final_loss: those of highest final loss; within each source where the split was made per source.
    No row is taken a second time before all that may serve are taken once.
    Raises InputError where no row can serve, or the split lacks the losses or token counts that are needed.
    """
    if not len(rows):
        return rows
    valid = split.valid & planned
    if of == "random":
        return np.sort(_drawn(np.flatnonzero(valid), len(rows), generator))
    if of == "easy":
        return np.sort(_drawn(np.flatnonzero(valid & ~split.hard), len(rows), generator))
    if of == "matched":
        return np.sort(_matched(rows, split, valid & ~split.hard, generator))
    return np.sort(_highest_loss(rows, split, valid))


def _drawn(pool: Rows, count: int, generator: np.random.Generator) -> Rows:
    if not len(pool):
        raise InputError("no valid row is left to stand in for the hard ones; leave this control out")
    whole, rest = divmod(count, len(pool))
    return np.concatenate([np.tile(pool, whole), generator.choice(pool, rest, replace=False)])


def _highest_loss(rows: Rows, split: Split, valid: Mask) -> Rows:
    if split.final_loss is None:
        raise InputError("of: final_loss needs losses; use a scorer that records them, such as LossTrajectory")
    groups = _groups(split) if split.per_source else np.zeros(len(split), np.int64)
    chosen = []
    for group in np.unique(groups[rows]):
        pool = np.flatnonzero(valid & (groups == group))
        by_loss = pool[np.argsort(-split.final_loss[pool], kind="stable")]
        chosen.append(by_loss[: int((groups[rows] == group).sum())])
    return np.concatenate(chosen)


def _matched(rows: Rows, split: Split, allowed: Mask, generator: np.random.Generator) -> Rows:
    """As many allowed rows as `rows`, of the same group and of like token counts; of any group where one has none."""
    if split.tokens is None:
        raise InputError("of: matched needs token counts; use a scorer that records them, such as LossTrajectory")
    groups = _groups(split)
    chosen, unmatched = [], []
    for group in np.unique(groups[rows]):
        wanted, pool = rows[groups[rows] == group], np.flatnonzero(allowed & (groups == group))
        if len(pool):
            chosen.append(_of_length(wanted, pool, split.tokens, generator))
        else:
            unmatched.append(wanted)
    if unmatched:
        # Rows taken above are the last to be taken again.
        rest = np.flatnonzero(allowed)
        fresh = np.setdiff1d(rest, np.concatenate(chosen)) if chosen else rest
        wanted = np.concatenate(unmatched)
        chosen.append(_of_length(wanted, fresh if len(fresh) >= len(wanted) else rest, split.tokens, generator))
    return np.concatenate(chosen)


def _of_length(wanted: Rows, pool: Rows, tokens: npt.NDArray[np.int32], generator: np.random.Generator) -> Rows:
    """For each row wanted, in a random order, the row of the pool that is nearest in length and was taken least."""
    if not len(pool):
        raise InputError("no row that is not hard is left to stand in for the hard ones; leave this control out")
    wanted = generator.permutation(wanted)
    # Ties in length are broken by a draw, so that another seed finds other rows.
    pool = generator.permutation(pool)
    pool = pool[np.argsort(tokens[pool], kind="stable")]
    parts = [wanted[low : low + len(pool)] for low in range(0, len(wanted), len(pool))]
    return np.concatenate([pool[_nearest(tokens[part], tokens[pool])] for part in parts])


def _groups(split: Split) -> IntArray:
    """(n,) a number per source; all rows alike where the data has none."""
    if split.sources is None:
        return np.zeros(len(split), np.int64)
    return source_codes(split.sources, len(split))[0].astype(np.int64)


def _nearest(wanted: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> Rows:
    """(m,) places in the sorted `lengths` (p,), p >= m: of each wanted length, in order, the nearest that is free."""
    free_below, free_above = list(range(len(lengths) + 1)), list(range(len(lengths) + 1))
    places = []
    for length, start in zip(wanted.tolist(), np.searchsorted(lengths, wanted).tolist(), strict=True):
        above = _free(free_above, start)
        below = _free(free_below, start) - 1  # place k stands under number k + 1, so that 0 means none
        further = length - lengths[below] if below >= 0 else None
        upwards = above < len(lengths) and (further is None or lengths[above] - length <= further)
        place = above if upwards else below
        free_above[place], free_below[place + 1] = place + 1, place
        places.append(place)
    return np.array(places, np.int64)


def _free(next_place: list[int], start: int) -> int:
    """The first free number from `start` on; what was passed points there afterwards, so that it stays cheap."""
    end = start
    while next_place[end] != end:
        end = next_place[end]
    while next_place[start] != end:
        next_place[start], start = end, next_place[start]
    return end
