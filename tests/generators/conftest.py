from __future__ import annotations

import pytest

from curate.generators import openai_client as client
from curate.generators import server as server_process


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(server_process, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(server_process, "FIRST_WAIT", 0.2)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
