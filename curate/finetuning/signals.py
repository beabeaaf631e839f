"""The first SIGTERM or Ctrl-C of a training run is obeyed once the step under way is saved; a second one at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType
from typing import Any

from curate.devices.distributed import any_rank, rank

__all__ = ["Stopping"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ECHO_SECONDS = 1.0  # torchrun passes on what a terminal has sent to its workers already


class Stopping:
    """While it is entered, a signal is noted instead of obeyed; `obey` hands it to whoever dealt with it before.

    Outside the main thread, where no signals arrive, nothing is changed.
    """

    def __init__(self) -> None:
        self._given: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            # What is ignored stays so, as for a process that a shell started in the background.
            found = {each: signal.getsignal(each) for each in _SIGNALS}
            self._before = {each: old for each, old in found.items() if old not in (signal.SIG_IGN, None)}
            for each in self._before:
                signal.signal(each, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if kind is None and self._given is not None:
            signal.raise_signal(self._given)

    def wanted(self) -> bool:
        """Whether any rank was told to stop: the same answer on all, which must all ask."""
        for each in _SIGNALS:
            if any_rank(self._given == each):
                self._given = each
                return True
        return False

    def obey(self) -> None:
        """End as the signal asks for; what is to be saved is saved."""
        self._restore()
        if self._given is not None:
            signal.raise_signal(self._given)

    def _note(self, number: int, _frame: Any) -> None:
        now = time.monotonic()
        if self._given is None:
            self._given, self._at = number, now
            if rank() == 0:  # past Python's own buffers, in whose middle a handler may be called
                os.write(2, b"curate: finishing this step to save it; ask once more to stop at once\n")
        elif now - self._at > _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for each, old in self._before.items():
            signal.signal(each, old)
        self._before = {}
