"""What exposures foretell: multiples of the arms, and the records of the reproduction."""

import math
from typing import Any

import pytest

from benchmarks.when.exposures import arm_multiples, map_arm, reproduction, summary
from tests import ROOT


def test_the_reproduction_is_foretold_from_other_seeds() -> None:
    """The sign in at least nine of ten arms, and better than a constant could: in both directions."""
    found = reproduction(ROOT / "benchmarks" / "results")
    assert len(found) == 24
    told = summary(found)
    assert told["sign_right"] >= 0.9
    assert told["r"] > 0.7
    assert {math.copysign(1, each.observed) for each in found} == {-1, 1}


def _block(seed: int, change: float) -> dict[str, Any]:
    run = {"steps": [10, 20, 40], "questions": {"a": 1, "b": 1}, "right": {"a": [0, 0, 0], "b": [0, 0, 0]}}
    return {
        "name": "x",
        "seed": seed,
        "setting": {"family": "f", "unit": 20},
        "mixture": {"a": 0.5, "b": 0.5},
        "hard_share": 0.5,
        "hard_share_by_group": {"a": 1.0, "b": 0.0},
        "rare_share": 0.5,
        "rare_groups": ["a"],
        "arms": {
            "original": run | {"nats": {"a": [4.0, 2.0, 1.0], "b": [1.0, 1.0, 1.0]}},
            "hard x2": run | {"nats": {"a": [4.0, 2.0 * change, 1.0], "b": [1.0, 1.0, 1.0]}},
        },
    }


def test_an_arm_of_the_map_is_foretold_by_the_curves_of_the_other_seeds() -> None:
    found = map_arm([_block(0, 0.7), _block(1, 0.8)], "hard x2", 1.0)
    assert found is not None
    assert found.exposures == pytest.approx((2 / (2 / 1.5) + 1) / 3 - 1)  # group a is 4 / 3 as far along 40 / steps
    assert found.observed == pytest.approx((1.5 + 1) / 3 - 1)
    assert map_arm([_block(0, 0.7)], "hard x2", 1.0) is None


def test_multiples_of_controls() -> None:
    block = _block(0, 1)
    assert arm_multiples(block, "random x3") == {"a": 1.0, "b": 1.0}
    assert arm_multiples(block, "easy x3") == pytest.approx({"a": 0.5, "b": 1.5})
    assert arm_multiples(block, "late x3") == pytest.approx({"a": 1.5, "b": 0.5})
