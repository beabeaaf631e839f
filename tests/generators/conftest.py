from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from curate.generators import openai_client as client
from curate.generators import server as server_process


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(server_process, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(server_process, "FIRST_WAIT", 0.2)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def own_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Logs of servers lie in tmp_path/logs; quick retries; nothing that the test started is left running."""
    before = set(psutil.Process().children(recursive=True))  # such as the graders of other tests, which serve them all
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(server_process, "_WATCH_EVERY", 0.02)
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "logs"))
    yield
    assert not set(psutil.Process().children(recursive=True)) - before
