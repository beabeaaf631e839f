"""Near-duplicates: candidates from MinHash bands, each verified by the exact Jaccard similarity of the shingle sets.

What is found is true: nothing below the threshold is reported. What is missed is a matter of chance that
`bands_for` bounds, with one exception: of the texts that share a key only the first `BUCKET` are compared with, so that
a million texts of one pattern do not mean a million comparisons each. Such texts are usually found under another
key; how many searches met a longer list than that is counted in `crowded`. Equal sets are always found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.gate.normalization import Hashes, Positions
from curate.gate.shingles import Shingles, Sketches, overlaps
from curate.types import BoolArray, Float64Array

__all__ = ["BUCKET", "Match", "NearIndex", "Pairs", "verified"]

BUCKET = 64  # texts compared with per key
_DEVIATIONS = 3.5  # an estimate this far below the threshold is not worth the exact number: misses 1 in 4,000
_PAIRS_AT_ONCE = 32_768


class Match(NamedTuple):
    """A text of the index, by its row there, and the Jaccard similarity with it."""

    row: int
    score: float


@dataclass(frozen=True)
class Pairs:
    """Near-duplicates (p,): query is a row of what was searched for, row one of the index; ascending by both."""

    query: Positions
    row: Positions
    score: Float64Array

    def __len__(self) -> int:
        return len(self.query)


@dataclass
class _Grown:
    """An array that rows are appended to, with room to spare."""

    array: npt.NDArray[Any]
    length: int = 0

    def append(self, rows: npt.NDArray[Any]) -> None:
        needed = self.length + len(rows)
        if needed > len(self.array):
            larger = np.empty((max(needed, len(self.array) * 3 // 2), *self.array.shape[1:]), self.array.dtype)
            larger[: self.length] = self.filled
            self.array = larger
        self.array[self.length : needed] = rows
        self.length = needed

    @property
    def filled(self) -> npt.NDArray[Any]:
        return self.array[: self.length]


@dataclass
class NearIndex:
    """Texts in the order they were added, found again by their keys.

    compared: pairs whose exact similarity was computed; crowded: searched texts that met a key of more than BUCKET
    texts.
    """

    threshold: float
    compared: int = 0
    crowded: int = 0
    _hashes: _Grown = field(default_factory=lambda: _Grown(np.empty(1024, np.int64)))
    _offsets: _Grown = field(default_factory=lambda: _Grown(np.zeros(1024, np.int64), 1))
    _minima: _Grown | None = None
    # Sorted runs of (keys, rows), the oldest and longest first, as in a log-structured merge tree.
    _runs: list[tuple[Hashes, npt.NDArray[np.int32]]] = field(default_factory=list)

    def __len__(self) -> int:
        return self._offsets.length - 1

    def add(self, added: Sketches) -> None:
        """Append the texts (m,); rows len(self) .. len(self) + m - 1."""
        base, filled = len(self), np.flatnonzero(added.shingles.sizes)
        if self._minima is None:
            self._minima = _Grown(np.empty((1024, added.minima.shape[1]), np.uint8))
        self._minima.append(added.minima)
        self._offsets.append(added.shingles.offsets[1:] + self._hashes.length)
        self._hashes.append(added.shingles.hashes)
        if not len(filled):
            return
        run = added.keys[filled].ravel(), (base + np.repeat(filled, added.keys.shape[1])).astype(np.int32)
        self._runs.append(_sorted(*run))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            newer, older = self._runs.pop(), self._runs.pop()
            keys, rows = np.concatenate([older[0], newer[0]]), np.concatenate([older[1], newer[1]])
            self._runs.append(_sorted(keys, rows))

    def search(self, wanted: Sketches) -> tuple[Pairs, npt.NDArray[np.int32]]:
        """All near-duplicates of the texts (m,) that the keys lead to, and how many texts have each key (m, keys)."""
        counts = np.zeros(wanted.keys.shape, np.int32)
        filled = np.flatnonzero(wanted.shingles.sizes)
        if not len(filled) or not self._runs:
            return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)), counts
        flat = wanted.keys[filled].ravel()
        order = np.argsort(flat)
        width, keys = wanted.keys.shape[1], flat[order]
        met = np.zeros(len(keys), np.int32)
        queries, rows = [], []
        for run_keys, run_rows in self._runs:
            left = np.searchsorted(run_keys, keys)
            there = np.flatnonzero(run_keys[np.minimum(left, len(run_keys) - 1)] == keys)
            left = left[there]
            length = np.searchsorted(run_keys, keys[there], "right") - left
            taken = np.minimum(length, np.maximum(BUCKET - met[there], 0))
            met[there] += length.astype(np.int32)
            queries.append(np.repeat(filled[order[there] // width], taken))
            rows.append(run_rows[_ranges(left, taken)])
        whole = np.zeros(len(keys), np.int32)
        whole[order] = met
        counts[filled] = whole.reshape(-1, width)
        self.crowded += int((counts > BUCKET).any(axis=1).sum())
        return self._verified(wanted, np.concatenate(queries), np.concatenate(rows).astype(np.int64)), counts

    def _verified(self, wanted: Sketches, query: Positions, row: Positions) -> Pairs:
        assert self._minima is not None
        texts = Shingles(self._hashes.filled, self._offsets.filled)
        mine = Sketches(texts, self._minima.filled, np.zeros((0, 0), np.uint64))
        pairs, compared = verified(wanted, mine, query, row, self.threshold)
        self.compared += compared
        return pairs


def verified(one: Sketches, other: Sketches, query: Positions, row: Positions, threshold: float) -> tuple[Pairs, int]:
    """Of candidates (c,), repeats allowed, the near-duplicates, and how many exact similarities that took.

    query: rows of `one`; row: rows of `other`. Sizes and estimates rule most pairs out before.
    """
    a, b = one.shingles.sizes[query], other.shingles.sizes[row]
    possible = np.minimum(a, b) >= threshold * np.maximum(a, b)
    count = max(len(other.shingles), 1)
    code = np.sort(query[possible] * count + row[possible])
    code = code[np.concatenate([[True], code[1:] != code[:-1]])] if len(code) else code
    query, row = code // count, code % count
    minima = one.minima.shape[1]
    least = threshold - _DEVIATIONS * np.sqrt(threshold * (1 - threshold) / minima)
    likely: list[BoolArray] = []
    for low in range(0, len(query), _PAIRS_AT_ONCE):
        part = slice(low, low + _PAIRS_AT_ONCE)
        agreeing = np.count_nonzero(one.minima[query[part]] == other.minima[row[part]], axis=1)
        likely.append(agreeing >= least * minima)
    if likely:
        keep = np.concatenate(likely)
        query, row = query[keep], row[keep]
    scores = [np.zeros(0)]
    for low in range(0, len(query), _PAIRS_AT_ONCE):
        part = slice(low, low + _PAIRS_AT_ONCE)
        scores.append(overlaps(one.shingles.take(query[part]), other.shingles.take(row[part])))
    score = np.concatenate(scores)
    near = score >= threshold
    return Pairs(query[near], row[near], score[near]), len(query)


def _sorted(keys: Hashes, rows: npt.NDArray[np.int32]) -> tuple[Hashes, npt.NDArray[np.int32]]:
    # Stable: under each key the rows stay in the order they came in. Two sorted runs merge in linear time.
    order = np.argsort(keys, kind="stable")
    return keys[order], rows[order]


def _ranges(starts: Positions, lengths: Sequence[int] | Positions) -> Positions:
    """starts[0] .. starts[0] + lengths[0] - 1, then those of starts[1], ..."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)
