"""Split examples into hard and easy ones by clustering their scores, and compare splits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.clusterers.features import shared_labels, source_labels, string_array
from curate.clusterers.per_source import PerSource, cluster_rows, is_per_source, seeded
from curate.difficulty.halves import length_strata
from curate.difficulty.reducible import Reducible, given_rows, reducible_rows
from curate.difficulty.scores import Scores, Split, as_scores
from curate.errors import InputError
from curate.storage.id_lookup import places_of, repeated, same_ids
from curate.types import BoolArray, Float64Array, IntArray

Strata = Literal["length"] | None
HardPolicy = Literal["highest", "above_mean"] | int

# Cluster of rows that could not be scored.
INVALID = -2


def make_split(
    scores: Scores,
    clusterer: Any,
    *,
    ids: Any = None,
    sources: Any = None,
    hard: HardPolicy = "highest",
    seed: int = 0,
    strata: Strata = None,
) -> Split:
    """Cluster the valid rows of `scores` and choose the hard clusters.

    ids: (n,) Arrow string array of the data's rows; scores that carry ids are joined to it by id. None = the rows of
        the scores, which must then carry ids.
    sources: (n,) labels, Arrow, NumPy or a sequence; required by a clusterer that works per source.
    hard: policy, over all rows or within each source if the clusterer works per source:
        "highest": the cluster of highest mean difficulty;
        m (int): the m clusters of highest mean difficulty;
        "above_mean": the clusters whose mean difficulty is above that of all rows.
        Noise is never hard, nor is the easiest cluster and those that tie with it. So with a single cluster nothing is
        hard; only the clusterer's small_sources="all_hard" can mark a whole source.
    seed: random state of a clusterer without its own.
    strata: "length" clusters within strata of completion length, at most 8 with about 40 rows or more, and within each
        source if the clusterer works per source; "hard" then means hard for its length.

    Clusters are numbered from 0 (easiest) by mean difficulty within each source, sources in the order of their names;
    -1 is noise, -2 an invalid row.

    Raises InputError for ids missing from the scores, no valid row, a feature of a valid row that is not finite, an
    unknown hard policy, and data that the clusterer cannot cluster.
    """
    _check_arguments(scores, ids, hard)
    scores = join_scores(scores, scores.ids if ids is None else ids)
    rows = np.flatnonzero(scores.valid)  # (valid rows,)
    features = scores.features if len(rows) == len(scores) else scores.features[rows]
    _check_features(features, rows, scores.ids)
    labels = None if sources is None else shared_labels(source_labels(sources, len(scores)))
    clusterer_used, labels_within = _groups(scores, rows, clusterer, None if labels is None else labels[rows], strata)
    clustering = cluster_rows(seeded(clusterer_used, seed), features, labels_within)
    difficulty = scores.difficulty[rows].astype(np.float64)
    numbers, is_hard = _rank(clustering.labels, clustering.groups, difficulty, hard)
    cluster = np.full(len(scores), INVALID, np.int32)  # (n,)
    cluster[rows] = numbers
    mask = np.zeros(len(scores), bool)  # (n,)
    mask[rows] = is_hard | clustering.all_hard[clustering.groups]
    return Split(
        ids=scores.ids,
        cluster=cluster,
        hard=mask,
        difficulty=scores.difficulty,
        valid=scores.valid,
        final_loss=scores.final_loss,
        sources=labels,
        per_source=is_per_source(clusterer),
        strata=strata,
        tokens=scores.tokens,
        trajectory=scores.trajectory,
        steps=scores.steps,
        reducible=_reducible(scores, mask, seed),
    )


def _groups(scores: Scores, rows: IntArray, clusterer: Any, sources: Any, strata: Strata) -> tuple[Any, Any]:
    """The clusterer to use, and (m,) labels of the groups that it works within: sources, or strata sorted by length.

    rows, sources: (m,) positions and labels.
    """
    if strata is None:
        return clusterer, sources
    if scores.tokens is None:
        raise InputError(
            "strata: length needs counts of completion tokens; use a scorer that records them, such as LossTrajectory"
        )
    numbers = length_strata(scores.tokens[rows], sources if is_per_source(clusterer) else None)
    per_stratum = clusterer if is_per_source(clusterer) else PerSource(clusterer=clusterer)
    return per_stratum, np.array([f"{number:09d}" for number in numbers.tolist()], object)


def _reducible(scores: Scores, hard: BoolArray, seed: int) -> Reducible | None:
    """Reducible rows as provided with the scores, else estimated from gains, else None. hard: (n,)."""
    if scores.reducible is not None:
        return given_rows(scores.reducible & scores.valid, hard)
    return None if scores.gains is None else reducible_rows(scores.gains, hard, seed=seed)


def _check_arguments(scores: Scores, ids: Any, hard: HardPolicy) -> None:
    if hard not in ("highest", "above_mean") and not (type(hard) is int and hard >= 1):
        raise InputError(f"hard={hard!r} is not a policy; use highest, above_mean or a number of clusters, at least 1")
    if ids is None and scores.ids is None:
        raise InputError("the scores carry no example ids; pass ids=examples.ids")


def _check_features(features: npt.NDArray[Any], rows: IntArray, ids: Any) -> None:
    """Raise InputError for no valid rows, or features that are not finite. features: (m, f) of the rows (m,)."""
    if len(rows) == 0:
        raise InputError(
            "no row is valid, so there is nothing to cluster; check the scores, the completions and max_length"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        row = int(rows[np.argmin(finite)])
        raise InputError(
            f"a feature of row {row} (example id {ids[row]}) is not finite although the row is valid; "
            "mark the row invalid or give it a number"
        )


def join_scores(scores: Scores, ids: Any) -> Scores:
    """Join `scores` to `ids` (Arrow strings, unique) by id; the result has the order of `ids`.

    Scores without ids are assumed to be in that order. Scores of other rows are dropped, so that those of a whole
    dataset can be used for a part of it. Raises InputError if an id has no scores, or occurs twice.
    """
    row_ids = string_array(ids)
    if scores.ids is None:
        if len(scores) != len(row_ids):
            raise InputError(f"scores have {len(scores)} rows for {len(row_ids)} examples; give one per example")
        return scores.with_ids(row_ids)
    scored = string_array(scores.ids)
    if same_ids(scored, row_ids):
        return scores.with_ids(row_ids)
    rows = places_of(row_ids, scored)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        raise InputError(
            f"the scores have no row for example id {row_ids[missing[0]]} (and {len(missing) - 1} more); "
            "score this dataset again"
        )
    times = np.bincount(rows, minlength=len(scored))  # (scored rows,)
    if times.max(initial=0) > 1:
        raise InputError(f"example id {scored[int(np.argmax(times))]} is not unique; give every row its own id")
    if len(scored) > len(row_ids):
        twice = repeated(scored)
        twice = twice[times[twice] > 0] if len(twice) else twice
        if len(twice):
            raise InputError(f"the scores hold id {scored[twice[0]]} more than once; keep one row of scores per id")
    return scores.with_ids(None).take(rows).with_ids(row_ids)


def given_scores(scores: Scores | npt.ArrayLike, ids: Any) -> Scores:
    """Scores that a user passed, for the rows `ids`: Scores joined by id, or an array (n,) of difficulties in order."""
    if isinstance(scores, Scores):
        return join_scores(scores, ids)
    array = np.asarray(scores)  # (n,)
    n = len(ids)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.number):
        raise InputError(
            f"scores is {type(scores).__name__} of shape {array.shape} and {array.dtype}; give Scores (a file: "
            f"curate.difficulty.score_files.read_scores) or an array of {n} difficulties"
        )
    return as_scores(array, n).with_ids(ids)


def _rank(
    labels: npt.NDArray[np.int32],
    groups: npt.NDArray[np.int32],
    difficulty: Float64Array,
    policy: HardPolicy,
) -> tuple[npt.NDArray[np.int32], BoolArray]:
    """(n,) cluster numbers sorted by group and mean difficulty, with noise kept; (n,) hard rows by the policy.

    labels, groups, difficulty: (n,) label within all groups, group, and difficulty of each row.
    """
    clustered = labels >= 0
    if not clustered.any():
        return labels, np.zeros(len(labels), bool)
    count = int(labels.max()) + 1
    sizes = np.bincount(labels[clustered], minlength=count)
    sums = np.bincount(labels[clustered], weights=difficulty[clustered], minlength=count)
    present = np.flatnonzero(sizes)  # (c,) labels in use
    means = sums[present] / sizes[present]  # (c,)
    group = np.zeros(count, np.int32)  # (labels,)
    group[labels[clustered]] = groups[clustered]
    group = group[present]  # (c,) group of each label
    order = np.lexsort((present, means, group))  # (c,)
    means, group = means[order], group[order]

    # (c,) easiest cluster in each cluster's group, and its rank from the hardest; (g,) mean difficulty of each group.
    first = np.searchsorted(group, group, side="left")
    from_top = np.searchsorted(group, group, side="right") - np.arange(len(group))
    overall = np.bincount(groups, weights=difficulty) / np.maximum(np.bincount(groups), 1)
    top = 1 if policy == "highest" else policy
    chosen = means > overall[group] if top == "above_mean" else from_top <= top
    chosen &= means > means[first]

    number = np.full(count, INVALID, np.int32)  # label -> cluster number
    number[present[order]] = np.arange(len(present), dtype=np.int32)
    ranked = np.where(clustered, number[labels], labels).astype(np.int32)
    hard = clustered & np.append(chosen, False)[ranked]
    return ranked, hard


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
