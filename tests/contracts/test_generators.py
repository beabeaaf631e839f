"""Every generator keeps the contract of generators, and generators that break it are found."""

from dataclasses import dataclass
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
from curate.generators.requests import Completion
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


@dataclass(frozen=True)
class Echo:
    """The generator of the module's docstring, with a fault."""

    fault: str = ""

    def identity(self) -> str:
        return "echo"

    def serve(self, queue) -> None:
        batch = queue.take(4)
        while batch:
            for number, request in enumerate(batch):
                text = f"{request.prompt}{id(queue) if self.fault == 'random' else ''}"
                if self.fault != "lost" or number:
                    queue.done(request, Completion(text, "done" if self.fault == "reason" else "stop", 1, 1))
                if self.fault == "twice":
                    queue.done(request, Completion(text, "stop", 1, 1))
            batch = [] if self.fault == "early" else queue.take(4)


def test_a_generator_of_a_few_lines_keeps_the_contract() -> None:
    check_generator(Echo())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("random", "greedy"),
        ("lost", "not answered"),
        ("twice", "came twice"),
        ("early", "not taken"),
        ("reason", "finish_reason"),
    ],
)
def test_broken_generators_are_found(fault: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_generator(Echo(fault))
