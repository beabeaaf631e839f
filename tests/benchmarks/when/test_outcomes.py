"""Changes over seeds, with their base and their intervals."""

import math
from typing import Any

import pytest
from scipy.stats import ttest_rel

from benchmarks.when.outcomes import change


def _blocks() -> list[dict[str, Any]]:
    blocks = []
    for seed, (base, arm) in enumerate([(1.0, 0.5), (1.2, 0.8), (0.8, 0.6)]):
        common = {"steps": [5, 10], "questions": {"a": 100, "b": 50}}
        blocks.append(
            {
                "seed": seed,
                "setting": {"unit": 10},
                "mixture": {"a": 0.75, "b": 0.25},
                "arms": {
                    "original": common
                    | {"nats": {"a": [9, base], "b": [9, 2 * base]}, "right": {"a": [0, 50], "b": [0, 10]}},
                    "hard x2": common
                    | {"nats": {"a": [9, arm], "b": [9, 2 * arm]}, "right": {"a": [0, 50], "b": [0, 30]}},
                },
            }
        )
    return blocks


def test_nats_of_the_mixture_and_balanced() -> None:
    mixture, balanced = (change(_blocks(), "hard x2", 1.0, f"nats {of}") for of in ("mixture", "balanced"))
    assert mixture is not None
    assert balanced is not None
    assert mixture.base == pytest.approx(1.25)
    assert balanced.base == pytest.approx(1.5)
    assert mixture.relative == pytest.approx((0.5 * 0.8 / 1.2 * 0.6 / 0.8) ** (1 / 3) - 1)
    assert mixture.relative == pytest.approx(balanced.relative)
    expected = ttest_rel([0.5, 0.8, 0.6], [1.0, 1.2, 0.8]).confidence_interval(0.95)
    assert mixture.absolute - mixture.half == pytest.approx(1.25 * expected.low)
    assert mixture.low < mixture.relative < mixture.high


def test_exact_answers_are_differences_of_shares() -> None:
    found = change(_blocks(), "hard x2", 1.0, "exact mixture")
    assert found is not None
    assert (found.base, found.absolute) == pytest.approx((0.75 * 0.5 + 0.25 * 0.2, 0.25 * 0.4))
    assert found.relative == pytest.approx(0.1 / 0.425)


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    found = change(_blocks()[:1], "hard x2", 1.0, "nats mixture")
    assert found is not None
    assert math.isnan(found.half)
    assert found.verdict == ""
    assert change(_blocks(), "hard x3", 1.0, "nats mixture") is None
