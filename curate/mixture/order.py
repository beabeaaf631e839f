"""Order rows of a result by pseudorandom keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.seeds import derive_seed
from curate.types import BoolArray, IntArray

# Version of the order of data/, for run.json. 1: one permutation of all rows (never released). 2: sorted by keys.
DATA_VERSION = 2

_COPY_BITS = 24
_AT_ONCE = 1 << 20  # rows at a time; does not affect the result
Keys = npt.NDArray[np.uint64]
Copies = npt.NDArray[np.int32]


def row_keys(positions: IntArray, copies: Copies, seed: int, purpose: str = "order") -> Keys:
    """(m,) unique uniform keys of rows. positions, copies: (m,) position in the input and number of the copy.

    A key depends only on the seed, the row and the number of its copy, so rows can be sorted in any number of parts and
    processes with the same result, and the relative order of rows does not change when others are added.

    The key of copy c of row p is number p + c 2^40 of the SplitMix64 stream of the seed (Steele, Lea and Flood 2014).
    """
    first = derive_seed(seed, purpose, 0) | derive_seed(seed, purpose, 1) << 32
    keys = np.empty(len(positions), np.uint64)  # (m,)
    for low in range(0, len(positions), _AT_ONCE):
        part = slice(low, low + _AT_ONCE)
        number = positions[part].astype(np.uint64)
        number |= copies[part].astype(np.uint64) << np.uint64(64 - _COPY_BITS)
        keys[part] = _mixed(number * np.uint64(0x9E3779B97F4A7C15) + np.uint64(first))
    return keys


def _mixed(state: Any) -> Any:
    """The output function of SplitMix64, a bijection of 64-bit integers."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def check_counts(counts: npt.NDArray[np.int32]) -> None:
    """Raise InputError if a row has more copies than fit in a key."""
    if len(counts) and counts.max() >= 1 << _COPY_BITS:
        row = int(np.argmax(counts))
        raise InputError(
            f"row {row} is planned {int(counts[row]):,} times; the limit is {(1 << _COPY_BITS) - 1:,}, lower the copies"
        )


def in_turn(counts: npt.NDArray[np.int32], new: int) -> tuple[IntArray, Copies]:
    """(m,) positions and (m,) numbers of the copies, in input order; new rows follow with one occurrence each.

    counts: (n,) planned occurrences of the input rows. new: number of new rows.
    """
    n, m = len(counts), int(counts.sum(dtype=np.int64)) + new
    positions, copies = np.empty(m, np.int64), np.zeros(m, np.int32)
    done = 0
    for low in range(0, n, _AT_ONCE):
        times = counts[low : low + _AT_ONCE]
        ends = np.cumsum(times, dtype=np.int64)
        part = slice(done, done + int(ends[-1]))
        positions[part] = np.repeat(np.arange(low, low + len(times)), times)
        copies[part] = np.arange(ends[-1]) - np.repeat(ends - times, times)
        done = part.stop
    positions[done:] = np.arange(n, n + new)
    return positions, copies


def shuffled(positions: IntArray, copies: Copies, seed: int) -> IntArray:
    """(m,) permutation that sorts rows by their keys: a uniform shuffle."""
    return np.argsort(row_keys(positions, copies, seed))


def in_front(positions: IntArray, copies: Copies, seed: int) -> IntArray:
    """(m,) permutation for the order "front".

    The first part has a random half of the original rows and every copy, shuffled; the second has the other originals.
    A copy may come before its original, or in the part without it, since the second part must be a fair sample of the
    originals.
    """
    first: BoolArray = copies > 0
    originals = np.flatnonzero(~first)
    keys = row_keys(positions[originals], copies[originals], seed, "front")
    first[originals[np.argsort(keys)[: half(len(originals))]]] = True
    order = shuffled(positions, copies, seed)
    return np.concatenate([order[first[order]], order[~first[order]]])


def in_epochs(positions: IntArray, copies: Copies, seed: int, epochs: int, inputs: int) -> IntArray:
    """(m,) permutation by epochs, each of them shuffled. inputs: number of input rows, which precede new ones.

    Rows are dealt round-robin to epochs in random order, occurrences of the same row consecutively. So these are in
    different epochs, each epoch is a random sample of rows, and all epochs have the same size. New rows are dealt last,
    so that every epoch has the same share of them.
    """
    rank = row_keys(positions, np.zeros(len(positions), np.int32), seed, "epochs")  # (m,)
    deal_order = np.lexsort((copies, rank, positions >= inputs))
    epoch = np.empty(len(positions), np.int64)
    epoch[deal_order] = np.arange(len(positions)) % epochs
    order = shuffled(positions, copies, seed)
    return order[np.argsort(epoch[order], kind="stable")]


def half(rows: int) -> int:
    """Size of the first half, rounded up."""
    return (rows + 1) // 2
