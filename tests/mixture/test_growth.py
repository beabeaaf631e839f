"""Rows that came later: how they are held against the earlier ones."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from curate.clusterers import KMeans
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.mixture.growth import drift, kept_run, together


def _scores(ids: list[str], **more: np.ndarray) -> Scores:
    values = np.arange(len(ids), dtype=np.float32)
    return Scores(values[:, None], values, np.ones(len(ids), bool), ids=pa.array(ids), **more)


def test_drift_is_the_statistic_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(0)
    old, same, other = rng.normal(size=500), rng.normal(size=300), rng.normal(0.8, size=300)
    old[:5] = np.nan
    found = drift(old, other)
    assert found is not None
    assert found.statistic == pytest.approx(ks_2samp(old[5:], other).statistic)
    assert (found.old, found.new, found.warns) == (495, 300, True)
    alike = drift(old, same)
    assert alike is not None
    assert not alike.warns
    assert drift(old, np.full(3, np.nan)) is None


def test_chance_alone_warns_in_one_of_a_hundred_samples_at_most() -> None:
    rng = np.random.default_rng(1)
    warned = [drift(rng.normal(size=400), rng.normal(size=60)) for _ in range(300)]
    assert sum(found is not None and found.warns for found in warned) <= 8


def test_each_row_has_the_score_of_the_one_that_measured_it() -> None:
    tokens = np.array([1, 2, 3], np.int32)
    old, new = _scores(["a", "b", "c"], tokens=tokens), _scores(["d", "e"])
    both = together(old, new, pa.array(["d", "a", "e", "c"]))
    assert both.ids.to_pylist() == ["d", "a", "e", "c"]
    assert both.difficulty.tolist() == [0, 0, 1, 2]
    assert both.tokens is None  # the new rows' are not known


def test_a_folder_without_a_finished_run_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no finished run"):
        kept_run(tmp_path, KMeans())
