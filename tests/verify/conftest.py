from __future__ import annotations

from collections.abc import Iterator

import pytest

from curate.verify import run_program
from curate.verify.symbolic import close_workers
from tests.fixtures.sandbox import QUICK


@pytest.fixture(autouse=True, scope="session")
def _no_worker_is_left() -> Iterator[None]:
    yield
    close_workers()


@pytest.fixture(scope="module")
def sandbox_here() -> None:
    result = run_program("print(1)", QUICK)
    if result.failure is not None and result.failure.startswith("not run"):
        pytest.skip(f"no sandbox here: {result.failure}")
