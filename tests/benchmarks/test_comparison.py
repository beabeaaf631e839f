"""The bootstrap that the intervals are measured against."""

from __future__ import annotations

import pytest

from benchmarks.comparison import bootstrap_interval, design
from curate.comparison.statistics import paired_interval
from tests.fixtures.studies import paired_tables


@pytest.mark.slow
def test_a_percentile_bootstrap_is_too_narrow_with_few_seeds() -> None:
    found = design("nll", 3, 100, 1.0, 0.0, 0.0, 120, 120, seed=0)
    assert found["coverage_bootstrap"] < 0.89
    assert found["coverage"] > 0.9


def test_the_bootstrap_is_seeded_and_resamples_examples_within_sets() -> None:
    one, other = paired_tables(4, 100), paired_tables(4, 60, seed=1)
    pooled = [one[0], other[0]], [one[1], other[1]]
    first = bootstrap_interval(*pooled, seed=1)
    assert first == bootstrap_interval(*pooled, seed=1) != bootstrap_interval(*pooled, seed=2)
    assert first[0] < paired_interval(*pooled).difference < first[1]
    arm, baseline = paired_tables(1, 400)
    low, high = bootstrap_interval(arm, baseline, seed=0)
    known = paired_interval(arm, baseline)
    assert high - low == pytest.approx(known.high - known.low, rel=0.1)
