"""Index of near-duplicates: candidates share a MinHash band, and each is verified by its exact Jaccard similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from curate.gate.minhash import Pairs, Shingles, Sketches, verified
from curate.gate.normalization import Hashes, Positions
from curate.types import BoolArray

BUCKET = 64  # texts compared per key
_BLOCK = 1024
# A block whose texts share few keys has few pairs; a block of texts of one pattern is halved until that holds.
_MOST_PAIRS = 100_000
_SMALLEST = 4 * BUCKET


class Match(NamedTuple):
    """The row of a text in the index, and the Jaccard similarity with it."""

    row: int
    score: float


@dataclass
class _Grown:
    """An array with spare capacity that rows are appended to."""

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
    """Texts in the order they were added, searchable by their keys.

    There are no false positives: nothing below the threshold is reported. The probability of a miss is bounded by
    `minhash.bands_for`, with one exception: of the texts that share a key only the first `BUCKET` are compared, so that
    a million texts of one pattern do not cost a million comparisons each. Such texts are usually found under another
    key; `crowded` counts the searches that met a longer list. Equal sets are always found.

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
        """Append the texts (m,) as rows len(self) .. len(self) + m - 1."""
        base, filled = len(self), np.flatnonzero(added.shingles.sizes)  # (f,)
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

    def search(self, sketched: Sketches) -> tuple[Pairs, npt.NDArray[np.int32]]:
        """All near-duplicates of the texts (m,) found by key, and the number of texts with each key (m, keys)."""
        counts = np.zeros(sketched.keys.shape, np.int32)  # (m, width)
        filled = np.flatnonzero(sketched.shingles.sizes)  # (f,)
        if not len(filled) or not self._runs:
            return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)), counts
        flat = sketched.keys[filled].ravel()
        order = np.argsort(flat)  # (f * width,), as `keys` and `met`
        width, keys = sketched.keys.shape[1], flat[order]
        met = np.zeros(len(keys), np.int32)  # (f * width,)
        queries, rows = [], []
        for run_keys, run_rows in self._runs:
            first = np.searchsorted(run_keys, keys)  # (f * width,)
            present = np.flatnonzero(run_keys[np.minimum(first, len(run_keys) - 1)] == keys)  # (p,), as those below
            first = first[present]
            length = np.searchsorted(run_keys, keys[present], "right") - first
            compared = np.minimum(length, np.maximum(BUCKET - met[present], 0))
            met[present] += length.astype(np.int32)
            queries.append(np.repeat(filled[order[present] // width], compared))
            rows.append(run_rows[_ranges(first, compared)])
        whole = np.zeros(len(keys), np.int32)  # (f * width,)
        whole[order] = met
        counts[filled] = whole.reshape(-1, width)
        self.crowded += int((counts > BUCKET).any(axis=1).sum())
        return self._verified(sketched, np.concatenate(queries), np.concatenate(rows).astype(np.int64)), counts

    def _verified(self, queries: Sketches, query: Positions, row: Positions) -> Pairs:
        assert self._minima is not None
        texts = Shingles(self._hashes.filled, self._offsets.filled)
        indexed = Sketches(texts, self._minima.filled, np.zeros((0, 0), np.uint64))
        pairs, compared = verified(queries, indexed, query, row, self.threshold)
        self.compared += compared
        return pairs


def _sorted(keys: Hashes, rows: npt.NDArray[np.int32]) -> tuple[Hashes, npt.NDArray[np.int32]]:
    # Stable: under each key, rows keep their order. Two sorted runs merge in linear time.
    order = np.argsort(keys, kind="stable")
    return keys[order], rows[order]


def _ranges(starts: Positions, lengths: Sequence[int] | Positions) -> Positions:
    """starts[0] .. starts[0] + lengths[0] - 1, then those of starts[1], ..."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


def admit(index: NearIndex, texts: Sketches, candidate: BoolArray) -> list[Match | None]:
    """The earliest near-duplicate of each text (m,) among those admitted before; None if there is none.

    Texts without one are added to the index where `candidate` (m,) is True. Index rows number the texts that
    were added.
    """
    matches: list[Match | None] = []
    low, size = 0, _BLOCK
    while low < len(texts):
        high = min(low + size, len(texts))
        block = _admit_block(index, texts.take(np.arange(low, high)), candidate[low:high])
        if block is None:
            size = max(size // 2, _SMALLEST)
            continue
        matches += block
        low, size = high, min(size * 2, _BLOCK)
    return matches


def _admit_block(index: NearIndex, block: Sketches, candidate: BoolArray) -> list[Match | None] | None:
    """`admit` for one block; None, without changes, if the block has too many pairs."""
    crowded = index.crowded
    older, counts = index.search(block)  # pairs with admitted texts; admitted texts with each key (m, keys)
    matches: list[Match | None] = [None] * len(block)
    first = np.unique(older.query, return_index=True)[1]  # the earliest admitted text of each query
    for k in first.tolist():
        matches[int(older.query[k])] = Match(int(older.row[k]), float(older.score[k]))
    # Texts with a match are skipped below; the others may match each other, candidates as earlier ones.
    fresh = np.flatnonzero(np.array([match is None for match in matches]) & (block.shingles.sizes > 0))  # (f,)
    rest, counts = block.take(fresh), counts[fresh]
    pairs = _pairs_within(rest)
    if pairs is None:
        index.crowded = crowded
        return None
    near, compared = verified(rest, rest, pairs[0], pairs[1], index.threshold)
    index.compared += compared
    admitted, within = _in_order(rest, near, candidate[fresh], counts)  # (f,), and the later texts among them
    number = len(index) + np.cumsum(admitted) - 1  # (f,) row that each kept text gets in the index
    for k, match in within.items():
        matches[int(fresh[k])] = Match(int(number[match.row]), match.score)
    if admitted.any():
        index.add(rest.take(np.flatnonzero(admitted)))
    return matches


def _pairs_within(texts: Sketches) -> tuple[Positions, Positions] | None:
    """(p,) later and (p,) earlier text of all pairs that share a key, with repeats; None if there are too many."""
    width = texts.keys.shape[1]
    flat = texts.keys.ravel()
    order = np.argsort(flat, kind="stable")  # (m * width,)
    keys = flat[order]  # (m * width,) ascending
    # (different keys,)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(keys)))  # (different keys,)
    rank = np.arange(len(keys)) - np.repeat(starts, sizes)  # (m * width,) texts of the same key before this one
    total = int(rank.sum())
    if total > _MOST_PAIRS and len(texts) > _SMALLEST:
        return None
    text = order // width
    ends = np.cumsum(rank)
    earlier = np.repeat(np.repeat(starts, sizes) - ends + rank, rank) + np.arange(total)
    return np.repeat(text, rank), text[earlier]


def _in_order(
    texts: Sketches, near: Pairs, candidate: BoolArray, counts: npt.NDArray[np.int32]
) -> tuple[BoolArray, dict[int, Match]]:
    """Which texts (m,) are kept, and the earliest kept text that each of the others matches.

    counts: (m, keys) number of texts in the index under each key. A text is found under a key only if it was among the
    first BUCKET of that key, as it would be had it been added to the index.
    """
    admitted = candidate.copy()
    matches: dict[int, Match] = {}
    if not len(near):
        return admitted, matches
    _, group, sizes = np.unique(texts.keys, return_inverse=True, return_counts=True)
    tight = bool((counts + sizes[group].reshape(counts.shape) > BUCKET).any())
    keys = texts.keys.tolist() if tight else []
    chosen = set(np.flatnonzero(admitted).tolist())
    found_under: dict[int, set[int]] = {}
    filled: dict[int, int] = {}
    earlier, scores = near.row.tolist(), near.score.tolist()
    later, begins = np.unique(near.query, return_index=True)
    bounds = zip(begins.tolist(), [*begins.tolist()[1:], len(near)], strict=True)
    neighbors = dict(zip(later.tolist(), bounds, strict=True))
    for text in range(len(texts)) if tight else sorted(neighbors):
        for place in range(*neighbors.get(text, (0, 0))):
            row = earlier[place]
            if row in chosen and (not tight or not found_under[row].isdisjoint(keys[text])):
                matches[text] = Match(row, scores[place])
                chosen.discard(text)
                admitted[text] = False
                break
        if tight and admitted[text]:
            before = [filled.get(key, count) for key, count in zip(keys[text], counts[text].tolist(), strict=True)]
            found_under[text] = {key for key, count in zip(keys[text], before, strict=True) if count < BUCKET}
            filled.update(zip(keys[text], (count + 1 for count in before), strict=True))
    return admitted, matches
