"""Bridge between a queue with blocking methods and requests in flight in an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from curate.generators.requests import Completion, Queue, Request

# Three threads take part: the caller of `run_in_thread`, which only waits; the thread of the event loop; and a worker,
# the only thread that calls the queue.

_SLICE = 0.05  # seconds of handing completions back before taking more requests: grading must not starve the server
GRACE = 5.0  # seconds that requests in flight may take to finish after one has failed: their answers may be paid for


async def drive_requests(
    queue: Queue,
    ask: Callable[[Request], Coroutine[Any, Any, Completion]],
    room: Callable[[], int],
    wake: asyncio.Event,
    worker: ThreadPoolExecutor,
) -> None:
    """Keep up to `room()` requests of the queue in flight until it has no more.

    Runs in the event loop. wake: set when there is more room; worker: executor of one thread, the only one that calls
    the queue.
    Finished completions are handed back before an error of `ask`, or a cancellation, is raised; before an error, also
    those that finish within `GRACE` seconds of it.
    """
    flight = _Flight(queue, ask, wake)
    try:
        while not flight.faults:
            wake.clear()
            idle = not flight.tasks and not flight.finished
            busy = len(flight.tasks)
            # Completions may wait for grading, but no more than the maximum number of requests in flight.
            most = min(room() - busy, 2 * room() - busy - len(flight.finished))
            requests = await flight.loop.run_in_executor(worker, flight.exchange, most)
            if idle and not requests:
                return
            if not flight.finished and flight.tasks:
                await wake.wait()
        await _last_answers(flight, worker)
    except asyncio.CancelledError:
        await _cancel(flight.tasks)
        await flight.loop.run_in_executor(worker, flight.hand_back)
        raise
    finally:
        await _cancel(flight.tasks)
    raise flight.faults[0]


class _Flight:
    """Requests in flight, and completions that wait for the queue.

    `exchange` and `hand_back` run in the worker thread, the rest in the event loop. They share only `finished`, a
    deque: the loop appends to it and the worker pops from it.
    """

    def __init__(
        self, queue: Queue, ask: Callable[[Request], Coroutine[Any, Any, Completion]], wake: asyncio.Event
    ) -> None:
        self.queue, self.ask, self.wake = queue, ask, wake
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.finished: deque[tuple[Request, Completion]] = deque()
        self.faults: list[Exception] = []

    def begin(self, requests: Iterable[Request]) -> None:
        for request in requests:
            task = self.loop.create_task(self._answer(request))
            self.tasks.add(task)
            task.add_done_callback(self._end)

    async def _answer(self, request: Request) -> None:
        try:
            self.finished.append((request, await self.ask(request)))
        except Exception as error:  # it is raised by `drive_requests`
            self.faults.append(error)

    def _end(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.wake.set()

    def exchange(self, most: int) -> int:
        """Take up to `most` requests, then hand completions back for a while. Runs in the worker thread."""
        requests = self.queue.take(most) if most > 0 else []
        self.loop.call_soon_threadsafe(self.begin, requests)
        until = time.monotonic() + _SLICE
        while self.finished and time.monotonic() < until:
            self.queue.done(*self.finished.popleft())
        return len(requests)

    def hand_back(self) -> None:
        """Hand back all finished completions. Runs in the worker thread."""
        while self.finished:
            self.queue.done(*self.finished.popleft())


async def _last_answers(flight: _Flight, worker: ThreadPoolExecutor) -> None:
    """Hand back what is finished or finishes within `GRACE` seconds; no further request is taken."""
    until = time.monotonic() + GRACE
    while True:
        await flight.loop.run_in_executor(worker, flight.hand_back)
        remaining = until - time.monotonic()
        if flight.finished:
            continue
        if not flight.tasks or remaining <= 0:
            return
        await asyncio.wait(flight.tasks, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    every = list(tasks)
    for task in every:
        task.cancel()
    await asyncio.gather(*every, return_exceptions=True)


def run_in_thread(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine in an event loop on a new thread, so that it works inside a running loop too.

    An interrupt of the calling thread cancels the coroutine and waits for its cleanup.
    """
    outcome: concurrent.futures.Future[None] = concurrent.futures.Future()
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def entry() -> None:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        ready.set()
        await main()

    def thread() -> None:
        """Runs in the new thread: the event loop, whose outcome goes to the calling thread."""
        try:
            asyncio.run(entry())
        except BaseException as error:  # raised again in the calling thread
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
