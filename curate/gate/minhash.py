"""MinHash: texts as sets of shingles, their sketches, and exact Jaccard similarities of candidate pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from curate.gate.normalization import Hashes, Positions, Words, mixed, sequence_hashes, window_hashes
from curate.types import BoolArray, Float64Array, IntArray

_MOST_HASHES = 128  # minima per text
_FOUND_AT_THRESHOLD = 0.9  # minimum share of the pairs exactly at the threshold that bands must propose
_SEED = 0x6761_7465
_DEVIATIONS = 3.5  # an estimate this far below the threshold is not verified: misses 1 in 4,000
_PAIRS_AT_ONCE = 32_768
# Numbers of shingles, and of products of shingles and factors, that fit in the processor's cache.
_SHINGLES_AT_ONCE, _PRODUCTS_AT_ONCE = 2_048, 1 << 20


@dataclass(frozen=True)
class Shingles:
    """The sets of shingles of n texts: text k has hashes[offsets[k]:offsets[k + 1]], ascending; offsets[0] is 0."""

    hashes: IntArray
    offsets: Positions

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Positions:
        """(n,) number of distinct shingles of each text."""
        return np.diff(self.offsets)

    def take(self, rows: Positions) -> Shingles:
        """The sets of the given rows (m,), in that order."""
        lengths = self.sizes[rows]  # (m,)
        offsets = np.concatenate([[0], np.cumsum(lengths)])  # (m + 1,)
        index = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Shingles(self.hashes[index], offsets)


@dataclass(frozen=True)
class Sketches:
    """Sketches of n texts with shingles: minima (n, bands * rows) uint8, the lowest byte of each minimum, and keys
    (n, bands + 1) uint64. Two texts are candidates if a key is equal; the last key is that of the whole set, so
    that equal sets always are."""

    shingles: Shingles
    minima: npt.NDArray[np.uint8]
    keys: Hashes

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Positions) -> Sketches:
        """The sketches of the given rows (m,), in that order."""
        return Sketches(self.shingles.take(rows), self.minima[rows], self.keys[rows])


@dataclass(frozen=True)
class Pairs:
    """Near-duplicates (p,): query is a row of the searched texts, row one of the index; ascending by both."""

    query: Positions
    row: Positions
    score: Float64Array

    def __len__(self) -> int:
        return len(self.query)


def shingles(words: Words, size: int) -> Shingles:
    """The distinct runs of `size` words of each text; one shingle for a text with fewer, none for one without words."""
    windows, starts = window_hashes(words.hashes, words.offsets, size)
    lengths = np.diff(words.offsets)
    short = np.flatnonzero((lengths > 0) & (lengths < size))
    rows = np.concatenate([np.searchsorted(words.offsets, starts, "right") - 1, short])  # (h,) text of each shingle
    hashes = np.concatenate([windows, sequence_hashes(words.hashes, words.offsets)[short]])  # (h,)
    hashes >>= np.uint64(1)  # SciPy stores columns as signed integers
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    new = np.ones(len(rows), np.bool_)
    new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    counts = np.bincount(rows[new], minlength=len(words))
    return Shingles(hashes[new].astype(np.int64), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def overlaps(left: Shingles, right: Shingles) -> Float64Array:
    """(p,) exact Jaccard similarity of the sets left[k] and right[k]: shared shingles over all shingles."""
    from scipy.sparse import csr_array

    def matrix(sets: Shingles) -> csr_array:
        """(n, 2^63) sparse indicator matrix of the shingles of n texts."""
        shape = (len(sets), np.iinfo(np.int64).max)
        return csr_array((np.ones(len(sets.hashes), np.int8), sets.hashes, sets.offsets), shape=shape)

    if not len(left):
        return np.zeros(0)
    a, b = matrix(left), matrix(right)
    a.has_canonical_format = b.has_canonical_format = True  # ascending and without repeats
    shared = np.diff(a.multiply(b).tocsr().indptr)  # (p,)
    return np.asarray(shared / (left.sizes + right.sizes - shared))


@cache
def bands_for(threshold: float) -> tuple[int, int]:
    """Number of bands and of minima: the most selective that propose enough of the pairs at the threshold.

    Texts of Jaccard similarity s agree in all r minima of one of b bands with probability 1 - (1 - s^r)^b.
    """
    for rows in range(16, 0, -1):
        bands = _MOST_HASHES // rows
        if 1 - (1 - threshold**rows) ** bands >= _FOUND_AT_THRESHOLD:
            return bands, rows
    return _MOST_HASHES, 1


def sketches(sets: Shingles, threshold: float) -> Sketches:
    """MinHash sketches of sets; those of empty sets are meaningless."""
    bands, rows = bands_for(threshold)
    count = bands * rows
    random = np.random.default_rng(_SEED)
    factors = random.integers(0, 2**32, (count, 2), np.uint32) | np.array([1, 0], np.uint32)  # (count, 2)
    narrow = (sets.hashes.view(np.uint64) >> np.uint64(31)).astype(np.uint32)  # (h,) upper halves of the hashes
    minima = np.zeros((len(sets), count), np.uint32)  # (n, count)
    filled = np.flatnonzero(sets.sizes)  # (texts with words,)
    starts, low = sets.offsets[filled], 0
    while low < len(filled):
        begin = starts[low]
        high = max(int(np.searchsorted(starts, begin + _SHINGLES_AT_ONCE)), low + 1)
        texts = filled[low:high]
        hashes = narrow[begin : sets.offsets[texts[-1] + 1]]
        step = max(_PRODUCTS_AT_ONCE // len(hashes), 1)  # all of them, unless a text is very long
        for first in range(0, count, step):
            columns = slice(first, first + step)
            # (columns, hashes)
            product = (hashes ^ factors[columns, 1:]) * factors[columns, :1]
            minima[texts, columns] = np.minimum.reduceat(product, starts[low:high] - begin, axis=1).T
        low = high
    keys = np.empty((len(sets), bands + 1), np.uint64)  # (n, bands + 1)
    keys[:, :bands] = np.arange(1, bands + 1, dtype=np.uint64)
    for row in range(rows):
        keys[:, :bands] = mixed(keys[:, :bands] + minima[:, row::rows])
    cumulative = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed(sets.hashes.view(np.uint64)))])
    keys[:, bands] = mixed(cumulative[sets.offsets[1:]] - cumulative[sets.offsets[:-1]])
    return Sketches(sets, ((minima >> 8) ^ minima).astype(np.uint8), keys)


def verified(left: Sketches, right: Sketches, query: Positions, row: Positions, threshold: float) -> tuple[Pairs, int]:
    """The near-duplicates among candidates (c,) with repeats, and the number of exact similarities computed for them.

    query: (c,) rows of `left`; row: (c,) rows of `right`. Sizes and estimates rule out most pairs first.
    """
    left_sizes, right_sizes = left.shingles.sizes[query], right.shingles.sizes[row]  # (c,) each
    possible = np.minimum(left_sizes, right_sizes) >= threshold * np.maximum(left_sizes, right_sizes)  # (c,)
    count = max(len(right.shingles), 1)
    codes = np.sort(query[possible] * count + row[possible])
    codes = codes[np.concatenate([[True], codes[1:] != codes[:-1]])] if len(codes) else codes
    query, row = codes // count, codes % count  # (distinct pairs,) each
    minima = left.minima.shape[1]
    least = threshold - _DEVIATIONS * np.sqrt(threshold * (1 - threshold) / minima)
    likely: list[BoolArray] = []
    for low in range(0, len(query), _PAIRS_AT_ONCE):
        part = slice(low, low + _PAIRS_AT_ONCE)
        agreeing = np.count_nonzero(left.minima[query[part]] == right.minima[row[part]], axis=1)
        likely.append(agreeing >= least * minima)
    if likely:
        keep = np.concatenate(likely)
        query, row = query[keep], row[keep]
    scores = [np.zeros(0)]
    for low in range(0, len(query), _PAIRS_AT_ONCE):
        part = slice(low, low + _PAIRS_AT_ONCE)
        scores.append(overlaps(left.shingles.take(query[part]), right.shingles.take(row[part])))
    score = np.concatenate(scores)  # (likely pairs,) Jaccard similarities
    near = score >= threshold
    return Pairs(query[near], row[near], score[near]), len(query)
