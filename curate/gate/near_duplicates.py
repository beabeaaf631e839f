"""Near-duplicates among the rows of one dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curate.gate.gate import Gate
from curate.gate.minhash import shingles, sketches
from curate.gate.near_index import NearIndex
from curate.gate.normalization import Positions, word_blocks


def near_duplicates(texts: Sequence[str], gate: Gate | None = None) -> tuple[Positions, Positions]:
    """Positions (p,) and (p,) of near-duplicate pairs among n texts, by the gate's threshold and shingles.

    Each pair may come in both orders; a text is never paired with itself. Of many texts with a common key only some
    pairs are compared (`curate.gate.near_index`): which, depends on the order of the texts.
    """
    gate = gate or Gate()
    if gate.near_duplicate is None or not len(texts):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = NearIndex(gate.near_duplicate)
    sketched = []
    for _, words in word_blocks(texts):
        sketched.append(sketches(shingles(words, gate.shingle), gate.near_duplicate))
        index.add(sketched[-1])
    low, queries, rows = 0, [], []
    for part in sketched:
        pairs = index.search(part)[0]
        queries.append(pairs.query + low)
        rows.append(pairs.row)
        low += len(part)
    query, row = np.concatenate(queries), np.concatenate(rows)
    return query[query != row], row[query != row]
