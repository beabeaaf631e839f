from __future__ import annotations

from collections.abc import Iterator

import pytest

from curate.verify import close_workers


@pytest.fixture(autouse=True, scope="module")
def _no_worker_is_left() -> Iterator[None]:
    yield
    close_workers()
