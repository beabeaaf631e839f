"""Few mixtures of many domains, for an alignment that cannot afford a gradient per domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curate.errors import InputError
from curate.reweighters.bm25 import token_counts
from curate.tokenization.tokens import Tokens
from curate.types import Float64Array, IntArray

if TYPE_CHECKING:
    from scipy import sparse


__all__ = ["importance_basis"]

_SMOOTHING = 0.05  # part of every mixture that is the data's own, so that no domain is out of reach


def importance_basis(tokens: Tokens, domains: IntArray, target: Tokens, count: int, seed: int) -> Float64Array:
    """(count, k) mixtures of k domains: the data's own, and count - 1 importance samples of parts of the target.

    Rows are compared by the tf-idf of their token ids. The target's rows are put into count - 1 groups by k-means, and
    a group's mixture is how often each domain's centroid is the nearest (by cosine) to a row of it, smoothed by 5 % of
    the data's own. All of that is ours; of the paper's basis is known that it comes from importance sampling.

    domains: (n,) index of each row's domain, -1 for rows that do not count. Raises InputError where the target has
    fewer rows than groups.
    """
    from scipy import sparse
    from sklearn.cluster import KMeans

    if len(target) < count - 1:
        raise InputError(
            f"DGA: basis={count} wants {count - 1} groups of the target, which has {len(target)} rows; lower basis"
        )
    width = int(max(tokens.ids.max(initial=0), target.ids.max(initial=0))) + 1
    counted = token_counts(tokens, width)
    containing = np.bincount(counted.indices, minlength=width)
    rarity = sparse.diags_array(np.log((1 + len(tokens)) / (1 + containing)) + 1)
    kept = np.flatnonzero(domains >= 0)
    k = int(domains.max()) + 1
    member = sparse.coo_array((np.ones(len(kept)), (domains[kept], kept)), shape=(k, len(tokens))).tocsr()
    centroids = _unit(member @ _unit(counted @ rarity))
    rows = _unit(token_counts(target, width) @ rarity)
    nearest = np.asarray((rows @ centroids.T).todense()).argmax(axis=1)
    own = np.bincount(domains[kept], tokens.completion_tokens[kept], k)
    own = own / own.sum()
    groups = KMeans(count - 1, n_init=4, random_state=seed).fit_predict(rows)
    basis = [own]
    for group in range(count - 1):
        histogram = np.bincount(nearest[groups == group], minlength=k).astype(np.float64)
        basis.append((1 - _SMOOTHING) * histogram / max(histogram.sum(), 1) + _SMOOTHING * own)
    found = np.stack(basis)
    return found / found.sum(axis=1, keepdims=True)


def _unit(rows: sparse.csr_array) -> sparse.csr_array:
    """Rows of length 1; an empty row stays."""
    from sklearn.preprocessing import normalize

    return normalize(rows)
