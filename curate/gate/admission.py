"""Texts admitted to an index in order: the first of near-duplicates is kept, later ones hit it.

The answers are those of a search and, where nothing is found, an addition per text; the work is done by blocks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curate.gate.minhash import BUCKET, Match, NearIndex, Pairs, verified
from curate.gate.normalization import Positions
from curate.gate.shingles import Sketches
from curate.types import BoolArray

__all__ = ["admit"]

_BLOCK = 1024
# A block that few keys are common to has few pairs; that of texts of one pattern, sorted, is halved until it has.
_MOST_PAIRS = 100_000
_SMALLEST = 4 * BUCKET


def admit(index: NearIndex, texts: Sketches, candidate: BoolArray) -> list[Match | None]:
    """The earliest near-duplicate of each text (m,) among those admitted before; None where there is none.

    Texts without one are added to the index where `candidate` (m,) holds. Rows of the index number the texts that
    were added.
    """
    found: list[Match | None] = []
    low, size = 0, _BLOCK
    while low < len(texts):
        high = min(low + size, len(texts))
        answer = _admit_block(index, texts.take(np.arange(low, high)), candidate[low:high])
        if answer is None:
            size = max(size // 2, _SMALLEST)
            continue
        found += answer
        low, size = high, min(size * 2, _BLOCK)
    return found


def _admit_block(index: NearIndex, block: Sketches, candidate: BoolArray) -> list[Match | None] | None:
    """`admit` for one block; None, with nothing done, where it is too large for the texts in it."""
    crowded = index.crowded
    older, counts = index.search(block)
    found: list[Match | None] = [None] * len(block)
    first = np.unique(older.query, return_index=True)[1]
    for k in first.tolist():
        found[int(older.query[k])] = Match(int(older.row[k]), float(older.score[k]))
    # Texts that were found take part in nothing below; the others may be hit, and if candidates, hit.
    fresh = np.flatnonzero(np.array([match is None for match in found]) & (block.shingles.sizes > 0))
    rest, counts = block.take(fresh), counts[fresh]
    pairs = _pairs_within(rest)
    if pairs is None:
        index.crowded = crowded
        return None
    near, compared = verified(rest, rest, pairs[0], pairs[1], index.threshold)
    index.compared += compared
    kept, matches = _in_order(rest, near, candidate[fresh], counts)
    number = len(index) + np.cumsum(kept) - 1
    for k, match in matches.items():
        found[int(fresh[k])] = Match(int(number[match.row]), match.score)
    if kept.any():
        index.add(rest.take(np.flatnonzero(kept)))
    return found


def _pairs_within(texts: Sketches) -> tuple[Positions, Positions] | None:
    """(p,) later and (p,) earlier text of all pairs that share a key, with repeats; None where they are too many."""
    width = texts.keys.shape[1]
    flat = texts.keys.ravel()
    order = np.argsort(flat, kind="stable")
    keys = flat[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, len(keys)))
    rank = np.arange(len(keys)) - np.repeat(starts, sizes)  # so many texts of the key came before
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
    """Which texts (m,) are kept, and the earliest kept one that each of the others hits.

    counts: (m, keys) how many texts the index has under each key. A text is found under a key only if it was among the
    first BUCKET of that key, as it would be had it been added to the index.
    """
    kept = candidate.copy()
    matches: dict[int, Match] = {}
    if not len(near):
        return kept, matches
    _, group, sizes = np.unique(texts.keys, return_inverse=True, return_counts=True)
    tight = bool((counts + sizes[group].reshape(counts.shape) > BUCKET).any())
    keys = texts.keys.tolist() if tight else []
    chosen = set(np.flatnonzero(kept).tolist())
    found_under: dict[int, set[int]] = {}
    filled: dict[int, int] = {}
    earlier, scores = near.row.tolist(), near.score.tolist()
    later, begins = np.unique(near.query, return_index=True)
    bounds = zip(begins.tolist(), [*begins.tolist()[1:], len(near)], strict=True)
    neighbours = dict(zip(later.tolist(), bounds, strict=True))
    for text in range(len(texts)) if tight else sorted(neighbours):
        for place in range(*neighbours.get(text, (0, 0))):
            row = earlier[place]
            if row in chosen and (not tight or not found_under[row].isdisjoint(keys[text])):
                matches[text] = Match(row, scores[place])
                chosen.discard(text)
                kept[text] = False
                break
        if tight and kept[text]:
            before = [filled.get(key, count) for key, count in zip(keys[text], counts[text].tolist(), strict=True)]
            found_under[text] = {key for key, count in zip(keys[text], before, strict=True) if count < BUCKET}
            filled.update(zip(keys[text], (count + 1 for count in before), strict=True))
    return kept, matches
