"""Exact comparison and lookup of millions of ids by 64-bit hashes, in little memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.types import IntArray

# Ids with equal hashes are compared as strings, so collisions do not affect results.

_AT_ONCE = 1 << 16
_WIDEST = 256  # bytes; longer ids are hashed one at a time with BLAKE2b, shorter ones all at once
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def id_numbers(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """(n,) 64-bit hashes of n strings; a null counts as the empty string."""
    parts = [_numbers(ids.slice(low, _AT_ONCE)) for low in range(0, len(ids), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _numbers(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """`id_numbers` of few enough strings to pad them to a common width."""
    strings = pc.fill_null(ids.cast(pa.large_binary()), b"")
    _, ends, data = strings.buffers()
    offsets = np.frombuffer(ends, np.int64)[strings.offset : strings.offset + len(strings) + 1]  # (n + 1,)
    lengths = np.diff(offsets)  # (n,) bytes of each string
    content = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]  # (bytes,) of all strings, end to end
    width = -(-int(lengths.max(initial=0)) // 8) * 8
    if width > _WIDEST:
        id_bytes = content.tobytes()
        bounds = (offsets - offsets[0]).tolist()
        digests = [hashlib.blake2b(id_bytes[low:high], digest_size=8).digest() for low, high in pairwise(bounds)]
        return np.where(lengths > _WIDEST, np.frombuffer(b"".join(digests), np.uint64), _short(content, lengths))
    return _short(content, lengths)


def _short(content: npt.NDArray[np.uint8], lengths: IntArray) -> npt.NDArray[np.uint64]:
    """(n,) hashes of n strings, multiply-xorshift over words of 8 bytes; meaningless above `_WIDEST` bytes.

    content: the bytes of all strings, end to end. lengths: (n,) bytes of each.
    """
    width = min(-(-int(lengths.max(initial=0)) // 8) * 8, _WIDEST)  # rounded up to whole words
    padded = np.zeros((len(lengths), width), np.uint8)  # (n, width)
    inside = np.arange(width) < np.minimum(lengths, width)[:, None]  # (n, width)
    if int(lengths.max(initial=0)) > width:
        starts = np.cumsum(lengths) - lengths
        content = content[(starts[:, None] + np.arange(width))[inside]]
    padded[inside] = content
    numbers = lengths.astype(np.uint64) * _FACTOR  # (n,)
    least = int(lengths.min(initial=_WIDEST))
    for k, word in enumerate(padded.view("<u8").T):
        mixed = (numbers ^ word) * _FACTOR
        mixed ^= mixed >> np.uint64(29)
        numbers = mixed if 8 * k < least else np.where(8 * k < lengths, mixed, numbers)
    return numbers


def same_ids(first: pa.Array, second: pa.Array) -> bool:
    """Whether two arrays hold the same strings in the same order; string and large_string compare equal."""
    if first.type != second.type and len(first) == len(second):
        first, second = first.cast(pa.large_string()), second.cast(pa.large_string())
    return bool(first.equals(second))


def repeated(*ids: pa.Array) -> IntArray:
    """Ascending positions, in the concatenation of the arrays, of all ids that occur more than once."""
    numbers = np.concatenate([id_numbers(array) for array in ids])  # (n,)
    in_order = np.sort(numbers)
    twice = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])  # (d,) hashes of two ids or more
    if not len(twice):
        return np.zeros(0, np.int64)
    places = np.minimum(np.searchsorted(twice, numbers), len(twice) - 1)
    rows = np.flatnonzero(twice[places] == numbers)  # (r,) candidates, compared as strings below
    starts = np.cumsum([0, *map(len, ids)])
    parts = [
        array.take(pa.array(rows[(rows >= low) & (rows < high)] - low)).cast(pa.large_string())
        for array, low, high in zip(ids, starts[:-1], starts[1:], strict=True)
    ]
    codes = pa.concat_arrays(parts).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return rows[np.bincount(codes)[codes] > 1]


def places_of(queries: pa.Array, ids: pa.Array) -> IntArray:
    """(m,) for each of `queries` (m,), the position of the first equal id in `ids` (n,), or -1."""
    return IdIndex.of(ids).places(queries)


@dataclass(frozen=True)
class IdIndex:
    """Index of n ids for repeated lookups.

    numbers: (n,) hashes of the ids, ascending. order: (n,) positions of the ids in that order.
    """

    ids: pa.Array
    numbers: npt.NDArray[np.uint64]
    order: IntArray

    @classmethod
    def of(cls, ids: pa.Array) -> IdIndex:
        numbers = id_numbers(ids)
        order = np.argsort(numbers, kind="stable")
        return cls(ids, numbers[order], order)

    def places(self, queries: pa.Array) -> IntArray:
        """As `places_of`."""
        if not len(self.ids):
            return np.full(len(queries), -1, np.int64)
        query_numbers = id_numbers(queries)
        by_number = np.argsort(query_numbers)  # (m,) sorted lookups read memory sequentially
        positions = np.searchsorted(self.numbers, query_numbers[by_number])  # (m,)
        positions[positions == len(self.numbers)] = 0
        equal = self.numbers[positions] == query_numbers[by_number]
        places = np.empty(len(queries), np.int64)  # (m,)
        places[by_number] = np.where(equal, self.order[positions], -1)
        mismatched = _differing(queries, self.ids, places)
        if len(mismatched):  # another id has the same number
            exact: Any = pc.index_in(queries.take(pa.array(mismatched)).cast(self.ids.type), value_set=self.ids)
            places[mismatched] = pc.fill_null(exact.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return places


def _differing(queries: pa.Array, ids: pa.Array, places: IntArray) -> IntArray:
    """Positions in `queries` whose id differs from the one that `places` points to (equal hashes, other strings)."""
    parts = [np.zeros(0, np.int64)]
    for low in range(0, len(queries), _AT_ONCE):
        rows = low + np.flatnonzero(places[low : low + _AT_ONCE] >= 0)
        candidates = ids.take(pa.array(places[rows]))
        equal = pc.equal(candidates, queries.take(pa.array(rows)).cast(ids.type))
        parts.append(rows[~pc.fill_null(equal, True).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def first_repeat(ids: pa.Array) -> tuple[int, int] | None:
    """The first row that repeats an earlier id, as (earlier row, row); None if ids are unique."""
    rows = repeated(ids)
    if not len(rows):
        return None
    codes = _codes(ids.take(pa.array(rows)))
    _, first = np.unique(codes, return_index=True)
    later = np.ones(len(codes), np.bool_)
    later[first] = False
    row = int(np.argmax(later))
    return int(rows[np.argmax(codes == codes[row])]), int(rows[row])


def with_numbered_repeats(hashes: pa.Array) -> pa.Array:
    """Append `-k` to the k-th occurrence of a repeated hash, k = 2, 3, ..."""
    rows = repeated(hashes)  # (m,) positions of all repeated hashes
    if not len(rows):
        return hashes
    codes = _codes(hashes.take(pa.array(rows)))  # (m,)
    order = np.argsort(codes, kind="stable")  # (m,) groups equal hashes, each in row order
    _, first, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    number = np.empty(len(rows), np.int64)  # (m,) 1 for the first of its kind
    number[order] = np.arange(len(rows)) - np.repeat(first, sizes) + 1
    rows, number = rows[number > 1], number[number > 1]
    hashes_repeated = hashes.take(pa.array(rows)).to_pylist()
    renamed = [f"{text}-{k}" for text, k in zip(hashes_repeated, number.tolist(), strict=True)]
    mask = np.zeros(len(hashes), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(hashes, pa.array(mask), pa.array(renamed, hashes.type))


def _codes(values: pa.Array) -> IntArray:
    """(n,) small integers that are equal for equal values."""
    return values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
