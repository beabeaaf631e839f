"""One GPU for proxy and server: who is there when, told by stand-ins for the server and the GPU."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from augmenters import Synthesize
from curate.generators.server import ServerProcess
from curate.mixture import screening
from tests.fixtures.server_processes import server
from tests.fixtures.synthesis_pipelines import run


def test_proxy_and_server_are_never_on_the_gpu_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def told(event: str, call: Any) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            events.append(event)
            return call(*arguments, **named)

        return wrapped

    def models() -> list[Any]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each).__name__.endswith("ForCausalLM")]

    others = models()  # of tests that ran before, still held: their objects live on, so no new one is taken for them

    def leave() -> None:
        own = [each for each in models() if not any(each is other for other in others)]
        events.append(f"the GPU is left with {len(own)} models")

    def close(process: ServerProcess, *, keep_log: bool = False) -> None:
        closed(process, keep_log=keep_log)
        assert process.status() is not None
        events.append("server is down")

    closed = ServerProcess.close
    monkeypatch.setattr("curate.generators.vllm.leave_gpus", leave)
    monkeypatch.setattr("curate.generators.vllm.free_gpu_share", told("room is measured", lambda: 0.5))
    monkeypatch.setattr(ServerProcess, "__init__", told("server starts", ServerProcess.__init__))
    monkeypatch.setattr(ServerProcess, "close", close)
    monkeypatch.setattr(screening, "rescore", told("new rows are measured", screening.rescore))
    curated = run(tmp_path, Synthesize(generator=server("--writes-sums"), rows=4))
    assert len(curated.realized[0].rows) > 0
    assert events == [
        "the GPU is left with 0 models",
        "room is measured",
        "server starts",
        "server is down",
        "new rows are measured",
    ]
