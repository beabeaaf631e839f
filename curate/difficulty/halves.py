"""Divide rows into two halves, so that each row can be measured by a model that never saw it.

Everything is decided by hashes of ids within strata of source and completion length: the same rows are divided the same
way, in whatever order they come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.types import BoolArray, IntArray

MOST_NULL_ROWS = 500
NULL_SHARE = 0.15  # of the rows, where that is fewer
MOST_WITHDRAWN = 0.2  # of the rows: what null rows may cost the training, with the rows that are tied to them
# Rows tied by likeness that come to more than this share are one pattern, not copies of one row.
MOST_TIED = 0.1
_LEAST_STRATUM = 40
_MOST_STRATA = 8  # by length, within a source


@dataclass(frozen=True)
class Halves:
    """n rows in two halves, and m null rows: rows with the completion of another row, which are wrong by construction.

    half: (n,) int8, 0 or 1: which half the row is in; it is measured by the model that was trained on the other one.
    withdrawn: (n,) bool, rows that are trained on in neither half, since a null row has their prompt or completion.
    null, donor: (m,) positions of the rows whose prompt and whose completion each null row has.
    """

    half: npt.NDArray[np.int8]
    withdrawn: BoolArray
    null: IntArray
    donor: IntArray

    def trained_on(self, half: int) -> IntArray:
        """Positions of the rows that the model of that half is trained on."""
        return np.flatnonzero((self.half == half) & ~self.withdrawn)

    def measured_by(self, half: int) -> tuple[IntArray, IntArray]:
        """Positions of the rows, and numbers of the null rows, that the model of that half measures: the others."""
        return np.flatnonzero(self.half != half), np.flatnonzero(self.half[self.null] != half)


def make_halves(
    ids: Sequence[str],
    lengths: npt.ArrayLike,
    completions: Sequence[str],
    *,
    sources: Sequence[Any] | npt.NDArray[Any] | None = None,
    groups: npt.ArrayLike | None = None,
    null_rows: int | None = None,
    seed: int = 0,
) -> Halves:
    """Halves of n rows that agree in their sources and completion lengths; rows of one group stay together.

    ids: (n,), different. lengths: (n,) of the completions, in any unit. completions: (n,) texts; a null row gets one
    that differs from its own. sources: (n,) labels. groups: (n,) labels of rows that must not be divided
    (`tied_groups`); None = every row by itself.
    null_rows: how many are wanted; None = 500, but at most 15 % of the rows. Fewer are made where the rows tied to
    them come to a fifth of all rows, and where a source has no two different completions of like length.
    seed: another one divides the rows in another way.

    Raises InputError for repeated ids and for arrays of other lengths.
    """
    n = len(ids)
    size = np.asarray(lengths)
    tied = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(set(ids)) != n or not len(size) == len(completions) == len(tied) == n:
        raise InputError(f"{n} ids, {len(size)} lengths, {len(completions)} completions; give one each, ids different")
    strata = length_strata(size, sources)
    wanted = min(MOST_NULL_ROWS, int(NULL_SHARE * n)) if null_rows is None else null_rows
    # (g,) of each group: its row of the least hash, which stands for it, and its rows.
    by_hash = np.argsort(_hashes(ids, "half", seed), kind="stable")
    heads = by_hash[np.unique(tied[by_hash], return_index=True)[1]]
    counts = np.bincount(tied, minlength=len(heads))
    named = [ids[k] for k in heads]
    half = _dealt(heads, counts, strata, _hashes(named, "half", seed))[tied]
    null = _spread(heads, counts, strata, _hashes(named, "null", seed), wanted, int(MOST_WITHDRAWN * n))
    donor = _donors(null, strata, np.asarray(_hashes([ids[k] for k in null], "donor", seed)), completions)
    null, donor = null[donor >= 0], donor[donor >= 0]
    withdrawn = np.isin(tied, tied[np.concatenate([null, donor])])
    order = np.argsort(null)
    return Halves(half, withdrawn, null[order], donor[order])


def length_strata(lengths: npt.ArrayLike, sources: Sequence[Any] | npt.NDArray[Any] | None = None) -> IntArray:
    """(n,) numbers of strata: sources, divided by quantiles of length into at most 8 parts of about 40 rows or more."""
    size = np.asarray(lengths, float)
    names = ["" if sources is None else repr(name) for name in (sources if sources is not None else [None] * len(size))]
    source = np.unique(np.array(names, object).astype(str), return_inverse=True)[1] if len(size) else np.zeros(0, int)
    part = np.zeros(len(size), np.int64)
    for code in range(int(source.max(initial=-1)) + 1):
        rows = np.flatnonzero(source == code)
        count = int(np.clip(len(rows) // _LEAST_STRATUM, 1, _MOST_STRATA))
        bounds = np.quantile(size[rows], np.arange(1, count) / count)
        part[rows] = np.searchsorted(bounds, size[rows], "left")
    return source * _MOST_STRATA + part


def tied_groups(
    n: int,
    same: Sequence[Sequence[Any] | npt.NDArray[Any]] = (),
    alike: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> tuple[IntArray, int]:
    """(n,) groups of rows that are connected, and how many rows were likened only by a pattern and are left apart.

    same: labels (n,) of which equal ones connect rows (texts, parents); None connects nothing. alike: positions (p,)
    and (p,) of near-duplicates. Of a group of more than a tenth of all rows the near-duplicates do not count: a
    template likens all rows that follow it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    def components(left: Any, right: Any) -> IntArray:
        links = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(n, n))
        return np.asarray(connected_components(links, directed=False)[1], np.int64)

    first: list[int] = []
    second: list[int] = []
    for labels in same:
        seen: dict[Any, int] = {}
        for row, label in enumerate(labels):
            if label is not None:
                first.append(seen.setdefault(label, row))
                second.append(row)
    exact = components(first, second)
    if alike is None:
        return exact, 0
    left, right = (np.asarray(side, np.int64) for side in alike)
    together = components(np.concatenate([first, left]).astype(int), np.concatenate([second, right]).astype(int))
    pattern = np.bincount(together, minlength=1)[together] > max(MOST_TIED * n, 2)
    pattern &= np.bincount(exact, minlength=1)[exact] != np.bincount(together, minlength=1)[together]
    kept = ~pattern[left]
    again = components(
        np.concatenate([first, left[kept]]).astype(int), np.concatenate([second, right[kept]]).astype(int)
    )
    return again, int(pattern.sum())


def ordered_by_hash(ids: Sequence[str], use: str) -> IntArray:
    """(n,) positions of the rows in the order of hashes of their ids, another order for every use."""
    return np.argsort(_hashes(ids, use, 0), kind="stable")


def _hashes(ids: Sequence[str], use: str, seed: int) -> npt.NDArray[np.uint64]:
    """(n,) 64-bit hashes of the ids, other ones for every use and seed."""
    salt = (seed % 2**64).to_bytes(8, "little")
    digests = [
        hashlib.blake2b(str(row_id).encode(), digest_size=8, person=use.encode(), salt=salt).digest() for row_id in ids
    ]
    return np.frombuffer(b"".join(digests), "<u8") if digests else np.zeros(0, np.uint64)


def _dealt(heads: IntArray, counts: IntArray, strata: IntArray, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int8]:
    """(g,) half of each group: in every stratum the large ones first, each to the half with fewer rows so far."""
    half = np.zeros(len(heads), np.int8)
    rows = np.zeros(2, np.int64)  # in each half, over all strata, for ties
    for stratum in np.unique(strata[heads]):
        members = np.flatnonzero(strata[heads] == stratum)
        members = members[np.lexsort((hashes[members], -counts[members]))]
        own = np.zeros(2, np.int64)
        for group in members.tolist():
            if own[0] != own[1]:
                side = int(own[1] < own[0])
            elif rows[0] != rows[1]:
                side = int(rows[1] < rows[0])
            else:
                side = int(hashes[group] & np.uint64(1))
            half[group] = side
            own[side] += counts[group]
            rows[side] += counts[group]
    return half


def _spread(
    heads: IntArray, counts: IntArray, strata: IntArray, hashes: npt.NDArray[np.uint64], wanted: int, budget: int
) -> IntArray:
    """Heads of groups, about `wanted` in proportion over the strata, that hold at most `budget` rows together."""
    if wanted < 1 or not len(heads):
        return np.zeros(0, np.int64)
    order = np.lexsort((hashes, strata[heads]))  # by stratum, then by chance
    strata_in_order = strata[heads][order]
    first = np.searchsorted(strata_in_order, strata_in_order, "left")
    size = np.searchsorted(strata_in_order, strata_in_order, "right") - first
    # Of each stratum the first so many, by the share of the stratum; ties between strata fall by chance.
    depth = (np.arange(len(order)) - first + 0.5) / size
    chosen = order[np.lexsort((hashes[order], depth))][:wanted]
    return heads[chosen[np.cumsum(counts[chosen]) <= budget]]


def _donors(null: IntArray, strata: IntArray, hashes: npt.NDArray[np.uint64], completions: Sequence[str]) -> IntArray:
    """(m,) of each null row the one whose completion it gets, of its stratum else of its source; -1 where none differs.

    Donors are null rows themselves, so that no model was trained on their completion either.
    """
    donor = np.full(len(null), -1, np.int64)
    for code in (strata, strata // _MOST_STRATA):
        for stratum in np.unique(code[null]):
            members = np.flatnonzero(code[null] == stratum)
            members = members[np.argsort(hashes[members], kind="stable")]
            for place in np.flatnonzero(donor[members] < 0).tolist():
                own = completions[null[members[place]]]
                for step in range(1, len(members)):
                    other = null[members[(place + step) % len(members)]]
                    if completions[other] != own:
                        donor[members[place]] = other
                        break
    return donor
