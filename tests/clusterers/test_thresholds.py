"""Quantile and Threshold cut the rows by one number."""

from __future__ import annotations

import numpy as np
import pytest

from curate.clusterers import (
    Quantile,
    Threshold,
)

# -- Quantile and Threshold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.05, 0.2, 0.7])
@pytest.mark.parametrize("n", [10, 997])
def test_quantile_takes_the_top_share(q: float, n: int) -> None:
    X = np.random.default_rng(0).permutation(n)[:, None].astype(float)
    labels = Quantile(q=q).fit_predict(X)
    assert labels.sum() == int(q * n + 1e-9)
    assert X[labels == 1].min(initial=n) > X[labels == 0].max()


def test_quantile_never_takes_more_than_its_share() -> None:
    assert Quantile(q=0.2).fit_predict([[1.0]] * 5 + [[2.0]] * 5).sum() == 0
    assert Quantile(q=0.5).fit_predict([[1.0]] * 5 + [[2.0]] * 5).tolist() == [0] * 5 + [1] * 5


def test_quantile_and_threshold_use_the_row_mean() -> None:
    X = np.array([[0.0, 3.0], [1.0, 1.0], [5.0, 0.0]])
    assert Threshold(value=1.2).fit_predict(X).tolist() == [1, 0, 1]
    assert Threshold(value=2.5).fit_predict(X).tolist() == [0, 0, 0]
    assert Quantile(q=0.34).fit_predict(X).tolist() == [0, 0, 1]
