"""Control rows that replace hard rows in comparisons, to separate the effect of hardness from that of repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from curate.clusterers.features import source_codes
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.types import BoolArray, IntArray

# Every control has as many rows as the arm that it is compared with, each with as many copies.

Rows = IntArray
Mask = BoolArray

# "random" rows may be hard like any row: the control for repetition. "matched" rows are not hard, but from the same
# sources and of similar length: the control for other differences. "final_loss" rows have the highest loss at the last
# checkpoint: the control for the trajectory.
Control = Literal["easy", "random", "matched", "final_loss"]


def evened(sources: Sequence[str], copies: int, seed: int) -> IntArray:
    """(n,) extra copies of each row that make sources as equal in size as `copies` copies in total allow.

    Copies go to the smallest source until it is as large as the next one, and so on. Within a source all rows are
    copied equally often; the remainder goes to a random sample.
    """
    names, index = np.unique(np.array(sources, object).astype(str), return_inverse=True)  # (s,) and (n,)
    sizes = np.bincount(index, minlength=len(names))
    additions = _filled(sizes, copies) - sizes  # (s,) copies for each of s sources
    generator = np.random.default_rng(seed)
    extra = np.zeros(len(index), np.int64)  # (n,)
    for source, count in enumerate(additions.tolist()):
        members = np.flatnonzero(index == source)
        whole, rest = divmod(count, len(members))
        extra[members] += whole
        extra[generator.choice(members, rest, replace=False)] += 1
    return extra


def _filled(sizes: IntArray, copies: int) -> IntArray:
    """(s,) sizes after adding `copies` one by one, always to the smallest."""
    order = np.argsort(sizes, kind="stable")  # (s,)
    ordered = sizes[order].astype(np.int64)  # (s,)
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
    """Sorted positions (m,) of control rows for the m hard rows at `rows`.

    planned: (n,) bool, rows that may be chosen.
    of:
        easy: sampled from the valid rows that are not hard.
        random: sampled from all valid rows, hard ones included.
        matched: for each hard row an easy row of the same source with the nearest number of completion tokens; for
            sources without easy rows, of any source.
        final_loss: rows of highest final loss; within each source if the split was made per source.
    No row is chosen twice before all candidates are chosen once.
    Raises InputError if there are no candidates, or the split lacks the required losses or token counts.
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
    """Sample `count` positions from the pool, with as few repeats as possible."""
    if not len(pool):
        raise InputError("no valid row is left to replace the hard ones; leave this control out")
    whole, rest = divmod(count, len(pool))
    return np.concatenate([np.tile(pool, whole), generator.choice(pool, rest, replace=False)])


def _highest_loss(rows: Rows, split: Split, valid: Mask) -> Rows:
    """As many valid rows as `rows`, of highest final loss, in the same proportion over sources."""
    if split.final_loss is None:
        raise InputError("of: final_loss needs losses; use a scorer that records them, such as LossTrajectory")
    groups = _groups(split) if split.per_source else np.zeros(len(split), np.int64)  # (n,)
    chosen = []
    for group in np.unique(groups[rows]):
        pool = np.flatnonzero(valid & (groups == group))
        by_loss = pool[np.argsort(-split.final_loss[pool], kind="stable")]
        chosen.append(by_loss[: int((groups[rows] == group).sum())])
    return np.concatenate(chosen)


def _matched(rows: Rows, split: Split, allowed: Mask, generator: np.random.Generator) -> Rows:
    """For each of `rows` an allowed row of the same source and similar length; of any source if it has none."""
    if split.tokens is None:
        raise InputError("of: matched needs token counts; use a scorer that records them, such as LossTrajectory")
    groups = _groups(split)
    chosen, unmatched = [], []
    for group in np.unique(groups[rows]):
        hard_rows, pool = rows[groups[rows] == group], np.flatnonzero(allowed & (groups == group))  # (m,) and (p,)
        if len(pool):
            chosen.append(_of_length(hard_rows, pool, split.tokens, generator))
        else:
            unmatched.append(hard_rows)
    if unmatched:
        # Prefer rows that were not chosen above.
        rest = np.flatnonzero(allowed)
        fresh = np.setdiff1d(rest, np.concatenate(chosen)) if chosen else rest
        hard_rows = np.concatenate(unmatched)
        chosen.append(_of_length(hard_rows, fresh if len(fresh) >= len(hard_rows) else rest, split.tokens, generator))
    return np.concatenate(chosen)


def _of_length(hard_rows: Rows, pool: Rows, tokens: npt.NDArray[np.int32], generator: np.random.Generator) -> Rows:
    """For each wanted row, in random order, the row of the pool nearest in length among the least used ones."""
    if not len(pool):
        raise InputError("no row that is not hard is left to replace the hard ones; leave this control out")
    hard_rows = generator.permutation(hard_rows)
    # Ties in length are broken at random, so that the result depends on the seed.
    pool = generator.permutation(pool)
    pool = pool[np.argsort(tokens[pool], kind="stable")]
    parts = [hard_rows[low : low + len(pool)] for low in range(0, len(hard_rows), len(pool))]
    return np.concatenate([pool[_nearest(tokens[part], tokens[pool])] for part in parts])


def _groups(split: Split) -> IntArray:
    """(n,) code of each row's source; 0 for all rows if there are no sources."""
    if split.sources is None:
        return np.zeros(len(split), np.int64)
    return source_codes(split.sources, len(split))[0].astype(np.int64)


def _nearest(targets: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> Rows:
    """(m,) indices into the sorted `lengths` (p,), p >= m: for each wanted length in order, the nearest unused one.

    free_below and free_above are union-find forests that lead from an index to the next unused one on either side.
    """
    free_below, free_above = list(range(len(lengths) + 1)), list(range(len(lengths) + 1))
    places = []
    for length, start in zip(targets.tolist(), np.searchsorted(lengths, targets).tolist(), strict=True):
        above = _free(free_above, start)
        below = _free(free_below, start) - 1  # shifted by 1, so that 0 means none
        further = length - lengths[below] if below >= 0 else None
        upwards = above < len(lengths) and (further is None or lengths[above] - length <= further)
        chosen = above if upwards else below
        free_above[chosen], free_below[chosen + 1] = chosen + 1, chosen
        places.append(chosen)
    return np.array(places, np.int64)


def _free(next_place: list[int], start: int) -> int:
    """Find the root of `start` in a union-find forest, compressing the path to it."""
    end = start
    while next_place[end] != end:
        end = next_place[end]
    while next_place[start] != end:
        next_place[start], start = end, next_place[start]
    return end
