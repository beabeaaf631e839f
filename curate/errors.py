"""Exception hierarchy: user errors, external failures and warnings, and phrases that messages share."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MEMORY = "memory ran out; make some free, or take fewer rows with --limit, and rerun the same command"
# Messages of torch, oneDNN, Arrow and the system for failed allocations that have no exception class,
# including those of a thread's stack and of a primitive's code.
_WORDS = (
    *("can't allocate memory", "out of memory", "cannot allocate memory", "malloc of size", "failed to allocate"),
    *("could not create a primitive", "failed to launch worker thread", "can't start new thread"),
)


class CurateError(Exception):
    """Base of every error raised on purpose.

    Every message is one line that names the row, column or key at fault and the remedy. The class determines the exit
    status of commands: `InputError` 2, `ExternalError` 3, anything else 1.
    """


class InputError(CurateError):
    """The caller's arguments or data cannot be used; the message says what to change."""


class ExternalError(CurateError):
    """Something outside failed (disk, hub, server); the same call resumes once it is back."""


class DataWarning(UserWarning):
    """The run continues, but the user should check something."""


class CacheDamage(UserWarning):
    """A cache entry did not match its checksum; it was moved away and is recomputed."""


def memory_ran_out(error: BaseException | None) -> bool:
    """Whether an error was caused by a failed allocation, even if its message says something else.

    Reading or mapping a file and starting a process may fail for lack of memory, and report a fault of the file.
    """
    if isinstance(error, CurateError) and "memory" in str(error) and not memory_in(str(error)):
        return False  # its message already names the remedy
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if memory_in(str(error)):
            return True
        error = error.__cause__
    return False


def memory_in(message: str) -> bool:
    """Whether a message is one of a failed allocation."""
    return any(words in message.lower() for words in _WORDS)


def reason_of(error: BaseException, limit: int = 200) -> str:
    """The message of an error on one line, cut at `limit` characters; the name of its class if it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def short_repr(value: Any, limit: int = 60) -> str:
    """`repr(value)`, cut at `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def suggestion(name: str, names: Iterable[str], otherwise: str) -> str:
    """ "did you mean 'x'?" for the one of `names` that is closest to `name`; `otherwise` if none is close."""
    import difflib

    close = difflib.get_close_matches(name, list(names), 1)
    return f"did you mean {close[0]!r}?" if close else otherwise


class DivergenceError(InputError):
    """A loss, a gradient or the weights stopped being finite.

    step: optimizer steps done before. rows: positions in `tokens` of the rows whose loss is not finite, or of the whole
    optimizer batch if only its gradient or the updated weights are not.
    """

    def __init__(self, message: str, step: int = 0, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.rows = list(rows)

    @classmethod
    def at(cls, what: str, step: int, rows: list[int], learning_rate: float) -> DivergenceError:
        """The error for `what` (the loss, a gradient, the weights) after `step` updates. rows: rows to inspect."""
        positions = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        rate = f"lower learning_rate (peak {learning_rate:g}) or look at these rows"
        return cls(f"{what} is not finite after {step} optimizer steps (row positions {positions}); {rate}", step, rows)


@dataclass(frozen=True)
class RunWarning:
    """Warning about a run. code: stable name. message: the observation, with numbers. remedy: what to do."""

    code: str
    message: str
    remedy: str
