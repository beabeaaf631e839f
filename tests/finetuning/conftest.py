from __future__ import annotations

import pytest

from tests.fixtures.finetuning import write_model
from tests.fixtures.tokenizers import byte_level


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", byte_level())
