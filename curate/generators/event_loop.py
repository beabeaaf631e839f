"""Between a queue, whose methods block, and requests under way in an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from curate.generators.requests import Completion, Queue, Request

__all__ = ["pump", "run_apart"]

_SLICE = 0.05  # seconds of handing completions back before asking for more: grading must not starve the server
GRACE = 5.0  # seconds that requests under way have to finish after one has failed: their answers may be paid for


async def pump(
    queue: Queue,
    ask: Callable[[Request], Coroutine[Any, Any, Completion]],
    room: Callable[[], int],
    wake: asyncio.Event,
    worker: ThreadPoolExecutor,
) -> None:
    """Keep up to `room()` requests of the queue under way until it has no more.

    wake: set by whoever knows that there is more room.
    worker: one thread, in which alone the queue is called; all that is finished by then goes in one visit.
    What is finished is handed back before an error of `ask`, or a cancellation, goes on; before an error, also what
    finishes within `GRACE` seconds of it.
    """
    flow = _Flow(queue, ask, wake)
    try:
        while not flow.faults:
            flow.wake.clear()
            idle = not flow.tasks and not flow.finished
            busy = len(flow.tasks)
            # Completions may wait to be graded, but no more of them than requests that are under way at best.
            most = min(room() - busy, 2 * room() - busy - len(flow.finished))
            taken = await flow.loop.run_in_executor(worker, flow.visit, most)
            if idle and not taken:
                return
            if not flow.finished and flow.tasks:
                await flow.wake.wait()
        await _last_answers(flow, worker)
    except asyncio.CancelledError:
        await _cancelled(flow.tasks)
        await flow.loop.run_in_executor(worker, flow.hand_back)
        raise
    finally:
        await _cancelled(flow.tasks)
    raise flow.faults[0]


class _Flow:
    """Requests under way and completions that wait for the queue. `visit` and `hand_back` run in the worker."""

    def __init__(
        self, queue: Queue, ask: Callable[[Request], Coroutine[Any, Any, Completion]], wake: asyncio.Event
    ) -> None:
        self.queue, self.ask, self.wake = queue, ask, wake
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[Completion]] = set()
        self.finished: deque[tuple[Request, Completion]] = deque()
        self.faults: list[BaseException] = []

    def begin(self, requests: Iterable[Request]) -> None:
        for request in requests:
            task = self.loop.create_task(self.ask(request))
            self.tasks.add(task)
            task.add_done_callback(functools.partial(self.end, request))

    def end(self, request: Request, task: asyncio.Task[Completion]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            fault = task.exception()
            if fault is None:
                self.finished.append((request, task.result()))
            else:
                self.faults.append(fault)
        self.wake.set()

    def visit(self, most: int) -> int:
        """Take up to `most` requests, then hand completions back for a while."""
        taken = self.queue.take(most) if most > 0 else []
        self.loop.call_soon_threadsafe(self.begin, taken)
        until = time.monotonic() + _SLICE
        while self.finished and time.monotonic() < until:
            self.queue.done(*self.finished.popleft())
        return len(taken)

    def hand_back(self) -> None:
        while self.finished:
            self.queue.done(*self.finished.popleft())


async def _last_answers(flow: _Flow, worker: ThreadPoolExecutor) -> None:
    """Hand back what is finished, and what is so within `GRACE` seconds; nothing more is taken."""
    until = time.monotonic() + GRACE
    while True:
        await flow.loop.run_in_executor(worker, flow.hand_back)
        left = until - time.monotonic()
        if flow.finished:
            continue
        if not flow.tasks or left <= 0:
            return
        await asyncio.wait(flow.tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    every = list(tasks)
    for task in every:
        task.cancel()
    await asyncio.gather(*every, return_exceptions=True)


def run_apart(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine in an event loop on a thread of its own, so that it works where a loop runs already.

    An interrupt of the calling thread cancels it and waits until it has put things in order.
    """
    outcome: concurrent.futures.Future[None] = concurrent.futures.Future()
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def entry() -> None:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        ready.set()
        await main()

    def thread() -> None:
        try:
            asyncio.run(entry())
        except BaseException as error:  # handed to the calling thread, whatever it is
            outcome.set_exception(error)
        else:
            outcome.set_result(None)
        finally:
            ready.set()

    runner = threading.Thread(target=thread, name="curate-generator", daemon=True)
    runner.start()
    try:
        outcome.result()
    except BaseException:
        ready.wait()
        if not outcome.done():
            loop, task = running[0]
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)
            concurrent.futures.wait([outcome])
        raise
    finally:
        if outcome.done():
            runner.join()
