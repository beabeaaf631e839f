"""Deferred SIGTERM and Ctrl-C: the first ends a training run once its current step is saved, a second at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType
from typing import Any

from curate.devices.distributed import any_rank, rank

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO_SECONDS = 1.0  # torchrun forwards to its workers what the terminal has sent them already


class StopSignals:
    """While entered, records a signal instead of acting on it; `raise_signal` passes it to the earlier handler.

    Outside the main thread, where no signals arrive, nothing is changed.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            # What is ignored stays so, as for a process that a shell started in the background.
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}
            for number in self._before:
                signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if kind is None and self._received is not None:
            signal.raise_signal(self._received)

    def received(self) -> bool:
        """Whether any rank has received a signal. A collective: every rank calls it, and all get the same answer."""
        for number in _SIGNALS:
            if any_rank(self._received == number):
                self._received = number
                return True
        return False

    def raise_signal(self) -> None:
        """Raise the signal received, once everything is saved."""
        self._restore()
        if self._received is not None:
            signal.raise_signal(self._received)

    def _record(self, number: int, _frame: Any) -> None:
        """The handler: in the main thread of each rank, between two of its bytecodes."""
        now = time.monotonic()
        if self._received is None:
            self._received, self._at = number, now
            if rank() == 0:  # past Python's own buffers, in whose middle a handler may be called
                os.write(2, b"curate: finishing this step to save it; send it again to stop at once\n")
        elif now - self._at > _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, old in self._before.items():
            signal.signal(number, old)
        self._before = {}
