"""Agreement of splits of the same rows: Jaccard index and adjusted Rand index."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from curate.clusterers.features import string_array
from curate.difficulty.scores import Split
from curate.errors import InputError
from curate.storage.id_lookup import same_ids
from curate.types import IntArray


def agreement(a: Split, b: Split) -> dict[str, float | None]:
    """{jaccard, ari} of two splits of the same rows.

    jaccard: of the sets of hard rows, None if both are empty. ari: adjusted Rand index of the clusters (noise counts as
    a cluster) over rows valid in both. Raises InputError if the rows are not the same in the same order.
    """
    if not same_ids(string_array(a.ids), string_array(b.ids)):
        raise InputError("the splits to compare are of different rows; make both from the same dataset")
    union = int((a.hard | b.hard).sum())
    valid = a.valid & b.valid
    return {
        "jaccard": float((a.hard & b.hard).sum() / union) if union else None,
        "ari": _adjusted_rand(a.cluster[valid], b.cluster[valid]) if valid.any() else None,
    }


def _adjusted_rand(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> float:
    """Adjusted Rand index of two (n,) labelings with labels from -1 on (Hubert and Arabie 1985)."""
    width = int(b.max()) + 2
    cells = np.bincount((a.astype(np.int64) + 1) * width + b + 1, minlength=(int(a.max()) + 2) * width)
    table = cells.reshape(-1, width)  # contingency table: rows with label i - 1 in a and j - 1 in b

    def pairs(sizes: IntArray) -> int:
        return int((sizes * (sizes - 1) // 2).sum())

    both, of_a, of_b, all_pairs = (
        pairs(table),
        pairs(table.sum(axis=1)),
        pairs(table.sum(axis=0)),
        pairs(np.array(len(a))),
    )
    if of_a + of_b == 2 * both:
        return 1.0
    expected = of_a * of_b / all_pairs
    return float((both - expected) / ((of_a + of_b) / 2 - expected))


def mean_agreement(splits: Sequence[Split]) -> dict[str, float | None] | None:
    """{seeds, jaccard, jaccard_min, ari}: means over pairs of splits, lowest Jaccard index; None for one split."""
    if len(splits) < 2:
        return None
    pairs = [agreement(a, b) for a, b in combinations(splits, 2)]
    jaccard = [pair["jaccard"] for pair in pairs if pair["jaccard"] is not None]
    ari = [pair["ari"] for pair in pairs if pair["ari"] is not None]
    return {
        "seeds": len(splits),
        "jaccard": float(np.mean(jaccard)) if jaccard else None,
        "jaccard_min": min(jaccard) if jaccard else None,
        "ari": float(np.mean(ari)) if ari else None,
    }
