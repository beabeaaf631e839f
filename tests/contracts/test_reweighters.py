"""Every reweighter is a component: written down, read back and fingerprinted."""

from typing import Any

import pytest

import curate.reweighters
from curate.checks import check_component
from curate.component import Component
from tests.fixtures.components import made

# Of a reweighter that is not here, the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "DynamicLoss": [{"r": 0.4}],
    "ADAPT": [{"anchors": "a.jsonl"}],
    "DGA": [{"target": {"data": "t", "limit": 5}}],
}


@pytest.mark.parametrize("reweighter", made(curate.reweighters, SETTINGS), ids=lambda part: type(part).__name__)
def test_reweighters_are_components(reweighter: Component) -> None:
    check_component(reweighter)
