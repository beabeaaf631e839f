"""Exception hierarchy: user errors, external failures and warnings.

Every message is one line that names the row, column or key at fault and the remedy. The command line turns
the class into an exit status: `InputError` 2, `ExternalError` 3, anything else 1.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

MEMORY = "memory ran out; make some free, or take fewer rows with --limit, and rerun the same command"
# Messages of torch, oneDNN, Arrow and the system for failed allocations that have no class of their own. A thread needs
# room for its stack, and a primitive for its code.
_WORDS = (
    *("can't allocate memory", "out of memory", "cannot allocate memory", "malloc of size", "failed to allocate"),
    *("could not create a primitive", "failed to launch worker thread", "can't start new thread"),
)


class CurateError(Exception):
    """Base of every error raised on purpose."""


class InputError(CurateError):
    """The caller's arguments or data cannot be used; the message says what to change."""


class ExternalError(CurateError):
    """Something outside failed (disk, hub, server); the same call resumes once it is back."""


class DataWarning(UserWarning):
    """The run continues, but the user should look at this."""


class CacheDamage(UserWarning):
    """A cache entry did not match its checksum; it was set aside and is recomputed."""


def memory_ran_out(error: BaseException | None) -> bool:
    """Whether an allocation failed below an error that says something else.

    Reading or mapping a file and starting a process may be refused memory, and report a fault of the file.
    """
    if isinstance(error, CurateError) and "memory" in str(error) and not _says_so(error):
        return False  # its message already names the remedy
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if _says_so(error):
            return True
        error = error.__cause__
    return False


def _says_so(error: BaseException) -> bool:
    return any(words in str(error).lower() for words in _WORDS)


class DivergenceError(InputError):
    """A loss, a gradient or the weights stopped being finite.

    step: optimizer steps done before. rows: positions in `tokens` of the rows whose loss is not finite, or of
    the whole optimizer batch where only its gradient is not, or the weights after it are not.
    """

    def __init__(self, message: str, step: int = 0, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.rows = list(rows)

    @classmethod
    def at(cls, what: str, step: int, rows: list[int], learning_rate: float) -> DivergenceError:
        """what: is not finite after `step` updates; rows: those to look at."""
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        rate = f"lower learning_rate (peak {learning_rate:g}) or look at these rows"
        return cls(f"{what} is not finite after {step} optimizer steps (row positions {shown}); {rate}", step, rows)


@dataclass(frozen=True)
class RunWarning:
    """code: stable name; message: what was found, with the number; remedy: what to do."""

    code: str
    message: str
    remedy: str
