"""Every augmenter keeps the contract of augmenters."""

from typing import Any

import pytest

import augmenters
from curate.checks import (
    check_augmenter,
)
from tests.fixtures.components import made

# Of an augmenter that is not here, the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "Duplicate": [
        {},
        {"times": 3, "cap": 0.2, "noise_guard": 0.1},
        {"of": "easy"},
        {"of": "random"},
        {"of": "matched", "draw": 2},
        {"of": "final_loss"},
        {"of": "random", "only": "reducible", "cap": 0.1},
    ],
    "Subset": [
        {"size": 0.3},
        {"size": 5, "choose": "lowest_loss"},
        {"size": 0.3, "choose": "random", "per": "source"},
        {"drop": "irreducible"},
        {"size": 0.5, "only": "reducible", "per": "source"},
    ],
    "Replay": [{"data": "rows.parquet", "share": 0.2}],
}
NEEDING = ("Synthesize",)  # a generator: see the tests of synthesis


@pytest.mark.parametrize("augmenter", made(augmenters, SETTINGS, without=NEEDING), ids=lambda part: type(part).__name__)
def test_augmenters(augmenter: object) -> None:
    check_augmenter(augmenter)
