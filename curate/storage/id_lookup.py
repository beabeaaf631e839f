"""Millions of ids compared by a number of 64 bits for each: a fraction of the memory of a table of strings.

Ids of one number are compared as strings, so that results are exact whatever the numbers are.
"""

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

_AT_ONCE = 1 << 16
_WIDEST = 256  # bytes of ids that are numbered together; longer ones go one by one
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def id_numbers(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """(n,) a number for each of the strings, equal where these are. Nulls count as empty."""
    parts = [_numbers(ids.slice(low, _AT_ONCE)) for low in range(0, len(ids), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _numbers(ids: pa.Array) -> npt.NDArray[np.uint64]:
    strings = pc.fill_null(ids.cast(pa.large_binary()), b"")
    _, ends, data = strings.buffers()
    offsets = np.frombuffer(ends, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    lengths = np.diff(offsets)
    content = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    width = -(-int(lengths.max(initial=0)) // 8) * 8
    if width > _WIDEST:
        whole = content.tobytes()
        bounds = (offsets - offsets[0]).tolist()
        digests = [hashlib.blake2b(whole[low:high], digest_size=8).digest() for low, high in pairwise(bounds)]
        return np.where(lengths > _WIDEST, np.frombuffer(b"".join(digests), np.uint64), _short(content, lengths))
    return _short(content, lengths)


def _short(content: npt.NDArray[np.uint8], lengths: IntArray) -> npt.NDArray[np.uint64]:
    """The numbers of strings of these lengths (n,), of which only those of up to `_WIDEST` bytes mean something."""
    width = min(-(-int(lengths.max(initial=0)) // 8) * 8, _WIDEST)
    padded = np.zeros((len(lengths), width), np.uint8)
    inside = np.arange(width) < np.minimum(lengths, width)[:, None]
    if int(lengths.max(initial=0)) > width:
        starts = np.cumsum(lengths) - lengths
        content = content[(starts[:, None] + np.arange(width))[inside]]
    padded[inside] = content
    numbers = lengths.astype(np.uint64) * _FACTOR
    least = int(lengths.min(initial=_WIDEST))
    for k, word in enumerate(padded.view("<u8").T):
        mixed = (numbers ^ word) * _FACTOR
        mixed ^= mixed >> np.uint64(29)
        numbers = mixed if 8 * k < least else np.where(8 * k < lengths, mixed, numbers)
    return numbers


def same_ids(first: pa.Array, second: pa.Array) -> bool:
    """Whether two arrays hold the same strings in the same order, whatever the width of their offsets."""
    if first.type != second.type and len(first) == len(second):
        first, second = first.cast(pa.large_string()), second.cast(pa.large_string())
    return bool(first.equals(second))


def repeated(*ids: pa.Array) -> IntArray:
    """Ascending positions in these arrays, end to end, of all ids that stand there more than once."""
    numbers = np.concatenate([id_numbers(row_id) for row_id in ids])
    in_order = np.sort(numbers)
    twice = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    if not len(twice):
        return np.zeros(0, np.int64)
    places = np.minimum(np.searchsorted(twice, numbers), len(twice) - 1)
    rows = np.flatnonzero(twice[places] == numbers)
    starts = np.cumsum([0, *map(len, ids)])
    parts = [
        each.take(pa.array(rows[(rows >= low) & (rows < high)] - low)).cast(pa.large_string())
        for each, low, high in zip(ids, starts[:-1], starts[1:], strict=True)
    ]
    codes = pa.concat_arrays(parts).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return rows[np.bincount(codes)[codes] > 1]


def places_of(wanted: pa.Array, ids: pa.Array) -> IntArray:
    """(m,) position of the first of `ids` (n,) that equals each of `wanted` (m,); -1 where there is none."""
    return IdIndex.of(ids).places(wanted)


@dataclass(frozen=True)
class IdIndex:
    """n ids that others are looked up in.

    numbers: (n,) of the ids, ascending. order: (n,) positions of the ids in that order.
    """

    ids: pa.Array
    numbers: npt.NDArray[np.uint64]
    order: IntArray

    @classmethod
    def of(cls, ids: pa.Array) -> IdIndex:
        numbers = id_numbers(ids)
        order = np.argsort(numbers, kind="stable")
        return cls(ids, numbers[order], order)

    def places(self, wanted: pa.Array) -> IntArray:
        """As `places_of`."""
        if not len(self.ids):
            return np.full(len(wanted), -1, np.int64)
        own = id_numbers(wanted)
        turn = np.argsort(own)  # asked for in order, which reads memory from beginning to end
        found = np.searchsorted(self.numbers, own[turn])
        found[found == len(self.numbers)] = 0
        known = self.numbers[found] == own[turn]
        places = np.empty(len(wanted), np.int64)
        places[turn] = np.where(known, self.order[found], -1)
        strange = _differing(wanted, self.ids, places)
        if len(strange):  # another id has the same number
            exact: Any = pc.index_in(wanted.take(pa.array(strange)).cast(self.ids.type), value_set=self.ids)
            places[strange] = pc.fill_null(exact.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return places


def _differing(wanted: pa.Array, ids: pa.Array, places: IntArray) -> IntArray:
    """Positions of those of `wanted` for which `places` names another id."""
    parts = [np.zeros(0, np.int64)]
    for low in range(0, len(wanted), _AT_ONCE):
        rows = low + np.flatnonzero(places[low : low + _AT_ONCE] >= 0)
        named = ids.take(pa.array(places[rows]))
        equal = pc.equal(named, wanted.take(pa.array(rows)).cast(ids.type))
        parts.append(rows[~pc.fill_null(equal, True).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)
