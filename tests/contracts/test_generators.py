"""Every generator keeps the contract of generators."""

from pathlib import Path
from typing import Any

import pytest

import curate.generators
from curate.checks import (
    check_component,
    check_generator,
)
from curate.component import Component
from curate.generators import Transformers, VLLMServer
from tests.fixtures.components import made
from tests.fixtures.models import write_model
from tests.fixtures.server import FakeServer
from tests.fixtures.tokenizers import byte_level

# Of a generator that is not here, the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {"Transformers": [{"model": "m"}], "VLLMServer": [{"model": "m"}]}


@pytest.mark.parametrize("generator", made(curate.generators, SETTINGS), ids=lambda part: type(part).__name__)
def test_generators_are_components(generator: Component) -> None:
    check_component(generator)


def test_generators(tmp_path: Path) -> None:
    write_model(tmp_path, byte_level())
    check_generator(Transformers(model=str(tmp_path), device="cpu", batch_size=4))
    with FakeServer(lambda body: "two") as server:
        check_generator(VLLMServer(model=server.model, url=server.url))
