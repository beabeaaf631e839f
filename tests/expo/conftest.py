from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.expo import write_pair


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base and a tuned model with a tokenizer, and rows to evaluate on."""
    return write_pair(tmp_path_factory.mktemp("trained"))
