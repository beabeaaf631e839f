"""Agreement of splits: the adjusted Rand index of scikit-learn, from a table of counts."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score

from curate.difficulty.agreement import agreement, mean_agreement
from curate.difficulty.scores import Split
from curate.errors import InputError


def split_of(cluster: np.ndarray, hard: np.ndarray | None = None) -> Split:
    n = len(cluster)
    ids = pa.array([f"r{k}" for k in range(n)])
    hard = cluster > 0 if hard is None else hard
    return Split(ids, cluster.astype(np.int32), hard, np.zeros(n, np.float32), cluster != -2)


@pytest.mark.parametrize("seed", range(30))
def test_the_adjusted_rand_index_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 40)
    first, second = rng.integers(-2, rng.integers(0, 5), (2, n))
    valid = (first != -2) & (second != -2)
    found = agreement(split_of(first), split_of(second))["ari"]
    if not valid.any():
        assert found is None
    else:
        assert found == pytest.approx(adjusted_rand_score(first[valid], second[valid]), abs=1e-12)
    assert agreement(split_of(first), split_of(first))["ari"] in (1.0, None)


def test_ids_decide_whether_splits_are_of_the_same_rows_and_not_their_type() -> None:
    split = split_of(np.array([0, 1, 1]))
    wide = dataclasses.replace(split, ids=split.ids.cast(pa.large_string()))
    assert agreement(split, wide) == {"jaccard": 1.0, "ari": 1.0}
    for ids in (["r0", "r2", "r1"], ["r0", "r1"]):
        with pytest.raises(InputError, match="different rows"):
            agreement(split, dataclasses.replace(split, ids=pa.array(ids)))


def test_the_mean_is_over_pairs() -> None:
    splits = [split_of(np.array(each)) for each in ([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1])]
    found = mean_agreement(splits)
    assert found is not None
    assert found["seeds"] == 3
    assert found["jaccard"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["jaccard_min"] == pytest.approx(2 / 3)
    assert mean_agreement(splits[:1]) is None
