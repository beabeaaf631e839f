"""Every optimizer is a component: written down, read back and fingerprinted."""

from typing import Any

import pytest

import curate.optimizers
from curate.checks import check_component
from curate.component import Component
from tests.fixtures.components import made

# Of an optimizer that is not here, the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {"FunctionalSAM": [{"base": "adamw"}]}


@pytest.mark.parametrize("optimizer", made(curate.optimizers, SETTINGS), ids=lambda part: type(part).__name__)
def test_optimizers_are_components(optimizer: Component) -> None:
    check_component(optimizer)
