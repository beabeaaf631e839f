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
_ECHO_SECONDS = 1.0  # torchrun forwards signals to its workers that the terminal has already sent them


class StopSignals:
    """Records a signal instead of acting on it while entered; `raise_signal` passes it to the previous handler.

    Does nothing outside the main thread, which receives no signals.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            # An ignored signal stays ignored, as in a process that a shell started in the background.
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
        """Whether any rank has received a signal. A collective: every rank must call it, and all get one answer."""
        for number in _SIGNALS:
            if any_rank(self._received == number):
                self._received = number
                return True
        return False

    def raise_signal(self) -> None:
        """Raise the received signal, once everything is saved."""
        self._restore()
        if self._received is not None:
            signal.raise_signal(self._received)

    def _record(self, number: int, _frame: Any) -> None:
        """The signal handler; Python runs it in the main thread of each rank, between two bytecodes."""
        now = time.monotonic()
        if self._received is None:
            self._received, self._at = number, now
            if rank() == 0:  # bypasses Python's buffers: a handler may interrupt a write to them
                os.write(2, b"curate: finishing this step to save it; send it again to stop at once\n")
        elif now - self._at > _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, old in self._before.items():
            signal.signal(number, old)
        self._before = {}
