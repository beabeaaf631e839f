from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Accelerate collects garbage at the start of every run, which looks at all that was ever imported."""
    gc.freeze()
    yield
    gc.unfreeze()
