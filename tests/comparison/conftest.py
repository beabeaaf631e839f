from __future__ import annotations

from pathlib import Path

import pytest

from curate.comparison.compare import Comparison, compare
from tests.fixtures.studies import ARMS, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(tmp_path_factory.mktemp("study"), ARMS, sets={"gsm8k": 90, "math": 60})


@pytest.fixture(scope="module")
def compared(study: list[Path]) -> Comparison:
    return compare(study)


@pytest.fixture
def small(tmp_path: Path) -> list[Path]:
    return write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"gsm8k": 20})
