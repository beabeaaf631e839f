from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.reports import write_run


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "out"
    directory.mkdir()
    write_run(directory)
    return directory
