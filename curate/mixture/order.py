"""The order of the rows of a result: that of a key per row, drawn from the seed.

A key depends on the seed, the row and the number of its copy alone, so rows can be sorted by it in any number of parts,
in any memory and in any process, with the same result; and a row keeps its place among the others when some are added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.seeds import derive_seed
from curate.types import BoolArray, IntArray

# Of the bytes of data/, for run.json. 1: one permutation of all rows (never released). 2: rows sorted by their keys.
DATA_VERSION = 2

_COPY_BITS = 24
_AT_ONCE = 1 << 20  # bounds the numbers alive at once; has no influence on the result
Keys = npt.NDArray[np.uint64]
Copies = npt.NDArray[np.int32]


def row_keys(positions: IntArray, copies: Copies, seed: int, purpose: str = "order") -> Keys:
    """(m,) uniform keys of rows at these positions (m,) with these numbers of copies (m,); no two are equal.

    Number p + c 2^40 of the stream of SplitMix64 (Steele, Lea and Flood 2014) that begins at the seed.
    """
    first = derive_seed(seed, purpose, 0) | derive_seed(seed, purpose, 1) << 32
    keys = np.empty(len(positions), np.uint64)
    for low in range(0, len(positions), _AT_ONCE):
        part = slice(low, low + _AT_ONCE)
        number = positions[part].astype(np.uint64)
        number |= copies[part].astype(np.uint64) << np.uint64(64 - _COPY_BITS)
        keys[part] = _mixed(number * np.uint64(0x9E3779B97F4A7C15) + np.uint64(first))
    return keys


def _mixed(state: Any) -> Any:
    """The output function of SplitMix64, which is one to one."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def check_counts(counts: npt.NDArray[np.int32]) -> None:
    """Raise InputError where a row is planned more often than keys can tell apart."""
    if len(counts) and counts.max() >= 1 << _COPY_BITS:
        row = int(np.argmax(counts))
        raise InputError(
            f"row {row} is planned {int(counts[row]):,} times; the limit is {(1 << _COPY_BITS) - 1:,}, lower the copies"
        )


def in_turn(counts: npt.NDArray[np.int32], new: int) -> tuple[IntArray, Copies]:
    """Every row as often as planned, one behind the other: (m,) positions and (m,) numbers of the copies.

    counts: (n,) of the rows of the input. new: rows behind these, once each.
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
    """(m,) the rows in the order of their keys: a uniform shuffle."""
    return np.argsort(row_keys(positions, copies, seed))


def in_front(positions: IntArray, copies: Copies, seed: int) -> IntArray:
    """(m,) the order "front".

    The first part: half of the rows themselves, drawn, and every copy, in random order. The second: the others.
    A copy may stand before its row, or in the part without it: the second part has to be a fair sample of the rows
    themselves.
    """
    first: BoolArray = copies > 0
    themselves = np.flatnonzero(~first)
    drawn = row_keys(positions[themselves], copies[themselves], seed, "front")
    first[themselves[np.argsort(drawn)[: half(len(themselves))]]] = True
    order = shuffled(positions, copies, seed)
    return np.concatenate([order[first[order]], order[~first[order]]])


def in_epochs(positions: IntArray, copies: Copies, seed: int, epochs: int, inputs: int) -> IntArray:
    """(m,) the order by epochs, each shuffled. inputs: rows of the input, before the new ones.

    Rows are dealt out in random order, one to each epoch in turn, and all times that one is planned after another:
    so it stands in different epochs, each is a random draw of the rows, and all are of one size. New rows are dealt
    out after the others, so that their rate is the same in every epoch.
    """
    rank = row_keys(positions, np.zeros(len(positions), np.int32), seed, "epochs")  # (m,)
    dealt = np.lexsort((copies, rank, positions >= inputs))
    epoch = np.empty(len(positions), np.int64)
    epoch[dealt] = np.arange(len(positions)) % epochs
    order = shuffled(positions, copies, seed)
    return order[np.argsort(epoch[order], kind="stable")]


def half(rows: int) -> int:
    """Rows of the first half, which has the odd one."""
    return (rows + 1) // 2
