"""A real vLLM, started by VLLMServer: `make test-vllm`, after `make vllm` has made its environment and the model."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from curate.generators import Transformers, VLLMServer
from curate.generators.request_queue import complete
from curate.generators.requests import Completion, Request, Sampling
from tests import ROOT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

COMMAND = Path(os.environ.get("CURATE_VLLM", ROOT / ".venv-vllm" / "bin" / "vllm"))
MODEL = Path(os.environ.get("CURATE_VLLM_MODEL", ROOT / ".venv-vllm" / "models" / "smollm2-135m"))
CONTEXT = 512

GREEDY = [
    "The capital of France is",
    "2 + 2 =",
    "Water boils at",
    "Once upon a time, there was a little girl who",
]
QUESTION = ({"role": "user", "content": "Name a color."},)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    if not COMMAND.exists():
        pytest.skip(f"no vLLM at {COMMAND} (make vllm, or set CURATE_VLLM)")
    if not (MODEL / "config.json").exists():
        pytest.skip(f"no model at {MODEL} (make vllm, or set CURATE_VLLM_MODEL)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield
    assert not started()


def vllm() -> VLLMServer:
    arguments = ("--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT))
    # On a CPU, vLLM 0.32 ends when a prompt that is prefilled in pieces has a seed.
    arguments += ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096")
    return VLLMServer(model=str(MODEL), command=str(COMMAND), arguments=arguments, start_timeout=300)


def started() -> list[psutil.Process]:
    """The living processes that belong to a server of this test run (others' servers are none of its business)."""
    return [each for each in psutil.Process().children(recursive=True) if each.is_running()]


def is_engine(process: psutil.Process) -> bool:
    try:
        return "".join(process.cmdline()).startswith("VLLM::EngineCore")
    except psutil.Error:
        return False


def ask(prompt: object, index: int = 0, **sampling: object) -> Request:
    return Request(prompt, Sampling(**{"max_tokens": 16, **sampling}), 11, index)  # type: ignore[arg-type]


def test_a_real_server_answers_as_it_should() -> None:
    greedy = [ask(prompt, temperature=0) for prompt in [*GREEDY, QUESTION]]
    samples = [ask(QUESTION, k, max_tokens=24) for k in range(6)]
    others = [
        ask("1, 2, 3, 4,", temperature=0, max_tokens=40, stop=(" 8",)),
        ask("word " * 600),
        ask("Once upon a time", temperature=0, max_tokens=100_000),
        ask(QUESTION, 99, top_k=1, max_tokens=16),
        ask("tell me \ud83d\ude00 \x00 more", max_tokens=4),
    ]
    found = complete(vllm(), [*greedy, *samples, *others])
    mine = complete(Transformers(model=str(MODEL), device="cpu", precision="float32"), greedy)
    for theirs, own in zip(found, mine, strict=False):
        assert theirs.prompt_tokens == own.prompt_tokens
        # Two implementations round differently, and one token is enough for another story.
        assert theirs.text[:12] == own.text[:12]
    assert sum(theirs.text == own.text for theirs, own in zip(found, mine, strict=False)) >= 4
    drawn = found[len(greedy) : len(greedy) + len(samples)]
    assert len({each.text for each in drawn}) >= 5
    stopped, refused, long, most_likely, odd = found[-5:]
    assert stopped.finish_reason == "stop"
    assert "7" in stopped.text
    assert "8" not in stopped.text
    assert refused.finish_reason == "refused"
    assert "context length" in str(refused.refusal)
    assert long.finish_reason in ("length", "stop")
    assert long.prompt_tokens + long.completion_tokens <= CONTEXT
    assert most_likely.text == found[len(GREEDY)].text
    assert 1 <= odd.completion_tokens <= 4


class Killing:
    """A queue that kills the engine after a few completions."""

    def __init__(self, count: int) -> None:
        self.waiting = [ask(f"Tell me about the number {k}.", k, max_tokens=32) for k in range(count)]
        self.done_: list[int] = []
        self.killed = 0
        self.notes: list[str] = []

    def take(self, most: int) -> list[Request]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        assert completion.completion_tokens > 0
        self.done_.append(request.index)
        if len(self.done_) == 5:
            self.server = started()
            for process in filter(is_engine, self.server):
                process.kill()
                self.killed += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_killed_engine_is_started_again_and_all_requests_come_back() -> None:
    queue = Killing(60)
    vllm().serve(queue)
    assert queue.killed == 1
    assert sorted(queue.done_) == list(range(60))
    assert sum("server ready" in note for note in queue.notes) == 2
    assert not [process for process in queue.server if process.is_running()]
    assert not started()


def test_an_interrupt_leaves_no_process() -> None:
    seen: list[psutil.Process] = []

    def interrupt_the_engine() -> None:
        while not any(map(is_engine, started())):
            time.sleep(0.2)
        time.sleep(5)
        seen.extend(started())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_the_engine, daemon=True).start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            complete(vllm(), [ask("Once upon a time", k, max_tokens=400) for k in range(200)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) >= 3
    assert not [process for process in seen if process.is_running()]
