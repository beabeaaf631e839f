"""BM25 scores of rows for a set of queries, over token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from curate.tokenization.tokens import Tokens
from curate.types import Float64Array

if TYPE_CHECKING:
    from scipy import sparse


def token_counts(tokens: Tokens, width: int) -> sparse.csr_array:
    """(n, width) counts of each token id in each row, prompt included."""
    from scipy import sparse

    n = len(tokens)
    rows = np.repeat(np.arange(n, dtype=np.int32), tokens.lengths)  # scikit-learn accepts no other index type
    return sparse.coo_array((np.ones(len(rows)), (rows, tokens.ids)), shape=(n, width)).tocsr()


def bm25_scores(documents: Tokens, queries: Tokens, k1: float = 1.5, b: float = 0.75) -> Float64Array:
    """(n,) mean over the queries of the BM25 score of each of n documents (Robertson and Zaragoza 2009, section 3).

    score(d, q) = sum over the distinct tokens t of q of
        ln(1 + (n - n_t + 0.5) / (n_t + 0.5)) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|)),
    f the count of t in d, n_t the number of documents that contain t. Terms are token ids.
    """
    width = int(max(documents.ids.max(initial=0), queries.ids.max(initial=0))) + 1
    counts = token_counts(documents, width)
    n, lengths = counts.shape[0], documents.lengths.astype(np.float64)  # (n,)
    containing = np.bincount(counts.indices, minlength=width)  # (width,) n_t
    rarity = np.log1p((n - containing + 0.5) / (containing + 0.5))
    in_query = (token_counts(queries, width) > 0).astype(np.float64)  # (queries, width)
    query_weights = rarity * np.asarray(in_query.mean(axis=0)).ravel()  # (width,)
    length_norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-12))
    f = counts.data
    counts.data = f * (k1 + 1) / (f + np.repeat(length_norm, np.diff(counts.indptr)))
    return np.asarray(counts @ query_weights).ravel()
