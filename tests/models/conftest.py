from __future__ import annotations

from collections.abc import Iterator

import pytest

from curate.models import hub


@pytest.fixture(autouse=True)
def _forget_the_hub() -> Iterator[None]:
    hub._on_hub.cache_clear()
    yield
    hub._on_hub.cache_clear()
