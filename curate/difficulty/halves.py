"""Divide rows into two halves for cross-fitting: each row is measured by a model that was not trained on it."""

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
NULL_SHARE = 0.15  # of the rows, if that is fewer
MOST_WITHDRAWN = 0.2  # of the rows: most that null rows and the rows tied to them may remove from training
# Near-duplicates that make up more than this share of rows follow a template rather than copy one row.
MOST_TIED = 0.1
_LEAST_STRATUM = 40
_MOST_STRATA = 8  # by length, within a source


@dataclass(frozen=True)
class Halves:
    """n rows in two halves, and m null rows: prompts with the completion of another row, wrong by construction.

    half: (n,) int8, 0 or 1: the half that a row is in; it is measured by the model trained on the other half.
    withdrawn: (n,) bool, rows that neither model is trained on, since a null row has their prompt or completion.
    null, donor: (m,) positions of the rows that each null row takes its prompt and its completion from.
    """

    half: npt.NDArray[np.int8]
    withdrawn: BoolArray
    null: IntArray
    donor: IntArray

    def trained_on(self, half: int) -> IntArray:
        """Positions of the rows that the model of that half is trained on."""
        return np.flatnonzero((self.half == half) & ~self.withdrawn)

    def measured_by(self, half: int) -> tuple[IntArray, IntArray]:
        """Positions of the rows, and indices of the null rows, that the model of that half measures: the other half."""
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
    """Divide n rows into halves with similar sources and completion lengths; rows of one group stay together.

    Assignments are made by hashes of ids within strata of source and completion length, so they do not depend on the
    order of rows.

    ids: (n,), unique. lengths: (n,) of the completions, in any unit. completions: (n,) texts; a null row gets one
    that differs from its own. sources: (n,) labels. groups: (n,) labels of rows that must stay together
    (`tied_groups`); None = every row by itself.
    null_rows: number of null rows; None = 500, but at most 15 % of the rows. There are fewer if the rows tied to
    them would exceed a fifth of all rows, or a source has no two different completions of similar length.
    seed: changes the division.

    Raises InputError for repeated ids and for arrays of different lengths.
    """
    n = len(ids)
    size = np.asarray(lengths)  # (n,)
    # (n,) number of each row's group
    tied = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(set(ids)) != n or not len(size) == len(completions) == len(tied) == n:
        raise InputError(f"{n} ids, {len(size)} lengths, {len(completions)} completions; give one each, ids different")
    strata = length_strata(size, sources)
    null_count = min(MOST_NULL_ROWS, int(NULL_SHARE * n)) if null_rows is None else null_rows
    # (g,) for each group: its row with the smallest hash, which represents it, and its number of rows.
    by_hash = np.argsort(_hashes(ids, "half", seed), kind="stable")
    heads = by_hash[np.unique(tied[by_hash], return_index=True)[1]]
    counts = np.bincount(tied, minlength=len(heads))
    head_ids = [ids[k] for k in heads]
    half = _dealt(heads, counts, strata, _hashes(head_ids, "half", seed))[tied]
    null = _spread(heads, counts, strata, _hashes(head_ids, "null", seed), null_count, int(MOST_WITHDRAWN * n))
    donor = _donors(null, strata, np.asarray(_hashes([ids[k] for k in null], "donor", seed)), completions)  # (m,)
    null, donor = null[donor >= 0], donor[donor >= 0]
    withdrawn = np.isin(tied, tied[np.concatenate([null, donor])])
    order = np.argsort(null)
    return Halves(half, withdrawn, null[order], donor[order])


def length_strata(lengths: npt.ArrayLike, sources: Sequence[Any] | npt.NDArray[Any] | None = None) -> IntArray:
    """(n,) stratum of each row: its source and length quantile, at most 8 per source with about 40 rows or more."""
    size = np.asarray(lengths, float)  # (n,)
    names = ["" if sources is None else repr(name) for name in (sources if sources is not None else [None] * len(size))]
    # (n,) codes
    source = np.unique(np.array(names, object).astype(str), return_inverse=True)[1] if len(size) else np.zeros(0, int)
    part = np.zeros(len(size), np.int64)  # (n,)
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
    """(n,) connected groups of rows, and the number of rows whose near-duplicates were ignored as a template.

    same: arrays of labels (n,) such as texts or parents; rows with equal labels are connected, None connects nothing.
    alike: positions (p,) and (p,) of pairs of near-duplicates. In a group of more than a tenth of all rows
    near-duplicates are ignored, since a template makes all rows that follow it similar.
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
    # (n,) groups, as `exact`
    together = components(np.concatenate([first, left]).astype(int), np.concatenate([second, right]).astype(int))
    pattern = np.bincount(together, minlength=1)[together] > max(MOST_TIED * n, 2)  # (n,)
    pattern &= np.bincount(exact, minlength=1)[exact] != np.bincount(together, minlength=1)[together]
    kept_edges = ~pattern[left]
    again = components(
        np.concatenate([first, left[kept_edges]]).astype(int), np.concatenate([second, right[kept_edges]]).astype(int)
    )
    return again, int(pattern.sum())


def ordered_by_hash(ids: Sequence[str], use: str) -> IntArray:
    """(n,) positions of the rows sorted by hashes of their ids; `use` salts the hash."""
    return np.argsort(_hashes(ids, use, 0), kind="stable")


def _hashes(ids: Sequence[str], use: str, seed: int) -> npt.NDArray[np.uint64]:
    """(n,) 64-bit hashes of the ids, salted by use and seed."""
    salt = (seed % 2**64).to_bytes(8, "little")
    digests = [
        hashlib.blake2b(str(row_id).encode(), digest_size=8, person=use.encode(), salt=salt).digest() for row_id in ids
    ]
    return np.frombuffer(b"".join(digests), "<u8") if digests else np.zeros(0, np.uint64)


def _dealt(heads: IntArray, counts: IntArray, strata: IntArray, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int8]:
    """(g,) half of each group: in every stratum, largest group first, each to the half with fewer rows so far.

    heads: (g,) representatives. counts: (g,) rows. strata: (n,). hashes: (g,) break ties.
    """
    half = np.zeros(len(heads), np.int8)  # (g,)
    rows = np.zeros(2, np.int64)  # (2,) in each half, over all strata, for ties
    for stratum in np.unique(strata[heads]):
        members = np.flatnonzero(strata[heads] == stratum)
        members = members[np.lexsort((hashes[members], -counts[members]))]
        in_stratum = np.zeros(2, np.int64)  # (2,) rows in each half
        for group in members.tolist():
            if in_stratum[0] != in_stratum[1]:
                side = int(in_stratum[1] < in_stratum[0])
            elif rows[0] != rows[1]:
                side = int(rows[1] < rows[0])
            else:
                side = int(hashes[group] & np.uint64(1))
            half[group] = side
            in_stratum[side] += counts[group]
            rows[side] += counts[group]
    return half


def _spread(
    heads: IntArray, counts: IntArray, strata: IntArray, hashes: npt.NDArray[np.uint64], count: int, budget: int
) -> IntArray:
    """Representatives of about `count` groups, in proportion to the strata, with at most `budget` rows in total.

    heads, counts, hashes: (g,) as in `_dealt`. strata: (n,).
    """
    if count < 1 or not len(heads):
        return np.zeros(0, np.int64)
    order = np.lexsort((hashes, strata[heads]))  # (g,) by stratum, then by hash
    strata_in_order = strata[heads][order]  # (g,)
    first = np.searchsorted(strata_in_order, strata_in_order, "left")  # (g,) start of the stratum
    size = np.searchsorted(strata_in_order, strata_in_order, "right") - first
    # Relative depth in the stratum, so that a prefix takes the same share of each; hashes break ties between strata.
    depth = (np.arange(len(order)) - first + 0.5) / size  # (g,)
    chosen = order[np.lexsort((hashes[order], depth))][:count]  # (count,) groups
    return heads[chosen[np.cumsum(counts[chosen]) <= budget]]


def _donors(null: IntArray, strata: IntArray, hashes: npt.NDArray[np.uint64], completions: Sequence[str]) -> IntArray:
    """(m,) donor row of each null row, from its stratum, else from its source; -1 if no completion differs.

    Donors are null rows themselves, so that no model was trained on their completions.
    """
    donor = np.full(len(null), -1, np.int64)  # (m,)
    for code in (strata, strata // _MOST_STRATA):
        for stratum in np.unique(code[null]):
            members = np.flatnonzero(code[null] == stratum)  # (null rows of the stratum,)
            members = members[np.argsort(hashes[members], kind="stable")]
            for place in np.flatnonzero(donor[members] < 0).tolist():
                completion = completions[null[members[place]]]
                for step in range(1, len(members)):
                    candidate = null[members[(place + step) % len(members)]]
                    if completions[candidate] != completion:
                        donor[members[place]] = candidate
                        break
    return donor
