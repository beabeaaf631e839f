"""Requests in flight between a blocking queue and an event loop: bounded, kept through failures and interrupts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.generators import event_loop
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request
from tests.fixtures.completions import Pulled, _interruptible, _until, connect, failing, many, texts
from tests.fixtures.server import FakeServer, Fault, asked


def test_follow_ups_are_asked_too_and_one_thread_alone_calls_the_queue() -> None:
    queue = Pulled(30)
    with FakeServer() as server:
        connect(server).serve(queue)
    assert sorted(queue.done_) == sorted([f"about question {k}" for k in [*range(30), *range(1000, 1030, 3)]])
    assert len(queue.threads) == 1
    assert threading.get_ident() not in queue.threads


def test_what_is_taken_is_bounded_and_slow_grading_does_not_starve_the_server() -> None:
    queue = Pulled(100, seconds=0.01)
    with FakeServer(delay=0.1) as server:
        started = time.monotonic()
        connect(server, connections=20).serve(queue)
    assert queue.largest <= 40
    assert time.monotonic() - started < 2.2  # 134 x 0.01 s of grading, 7 rounds of 0.1 s: side by side


def test_it_works_inside_a_running_event_loop() -> None:
    async def notebook() -> list[str]:
        return texts(complete(connect(server), many(3)))

    with FakeServer() as server:
        assert asyncio.run(notebook()) == ["about question 0", "about question 1", "about question 2"]


class Full(Pulled):
    def done(self, request: Request, completion: Completion) -> None:
        raise ExternalError("the disk is full")


def test_what_the_queue_raises_comes_out() -> None:
    with FakeServer() as server, pytest.raises(ExternalError, match="the disk is full"):
        connect(server).serve(Full(30))
    assert threading.active_count() < 10


ASKER = """
import sys
from curate.generators.requests import Request, Sampling
from curate.generators import VLLMServer
from curate.generators.request_queue import complete
from curate.generators.request_store import RequestStore
requests = [Request(f"question {k}", Sampling(max_tokens=50), 3, k) for k in range(int(sys.argv[3]))]
generator = VLLMServer(model="fake-model", url=sys.argv[1], connections=4)
print(len(complete(generator, requests, RequestStore(sys.argv[2]))))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_resumed_asks_for_what_is_missing_only(tmp_path: Path, number: int) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(delay=0.005) as server:
        command = [sys.executable, "-c", ASKER, server.url, str(store.path), "300"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=_interruptible) as process:
            _until(lambda: len(server.answered) > 60)
            process.send_signal(number)
            process.wait()
        kept = store.count()
        assert 40 < kept < 300
        arrived = len(server.requests)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        assert done.stdout == "300\n"
        assert len(server.requests) - arrived == 300 - kept
    # What was answered as it died may be lost with it, and nothing else.
    assert sum(count - 1 for count in server.answered.values()) <= 3 * 4


def test_an_interrupt_hands_back_what_is_finished_and_leaves_no_thread() -> None:
    queue = Pulled(10_000)
    with FakeServer(delay=0.002) as server:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                connect(server, connections=16).serve(queue)
        finally:
            signal.signal(signal.SIGINT, before)
        assert sum(server.answered.values()) - len(queue.done_) <= 3 * 16
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("curate")]


def test_what_is_under_way_when_a_request_fails_is_kept(tmp_path: Path) -> None:
    """Its answers may be paid for; no more is asked."""
    refused = Fault("status", 400, "top_p must be in (0, 1]")
    store = RequestStore(tmp_path / "requests.sqlite")
    slow = Fault("slow", seconds=0.5)
    with FakeServer(faults=lambda body, _: refused if asked(body) == "question 0" else slow) as server:
        failing(InputError, connect(server, connections=8), many(100), store)
        assert store.count() == sum(server.answered.values()) == len(server.requests) - 1
        assert 1 <= store.count() < 50


def test_what_hangs_when_a_request_fails_is_waited_for_a_little_and_an_interrupt_ends_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = Fault("status", 400, "top_p must be in (0, 1]")
    hanging: dict[str, Fault | None] = {"question 0": refused, "question 1": Fault("hang")}
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(faults=lambda body, _: hanging.get(asked(body))) as server:
        monkeypatch.setattr(event_loop, "GRACE", 0.5)
        began = time.monotonic()
        failing(InputError, connect(server, connections=8), many(4), store)
        assert 0.4 < time.monotonic() - began < 10
        assert store.count() == 2
        monkeypatch.setattr(event_loop, "GRACE", 1000.0)
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                connect(server, connections=8).serve(Pulled(4))
        finally:
            signal.signal(signal.SIGINT, before)
