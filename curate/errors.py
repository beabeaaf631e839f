"""What can go wrong, sorted by whose turn it is to act.

Every message is one line that names the row, column or key at fault and the remedy. The command line turns
the class into an exit status: `InputError` 2, `ExternalError` 3, anything else 1.
"""

__all__ = ["CacheDamage", "CurateError", "DataWarning", "ExternalError", "InputError"]


class CurateError(Exception):
    """Base of every error raised on purpose."""


class InputError(CurateError):
    """The caller's arguments or data cannot be used; the message says what to change."""


class ExternalError(CurateError):
    """Something outside failed (disk, hub, server); the same call resumes once it is back."""


class DataWarning(UserWarning):
    """The run goes on, but the user should look at this."""


class CacheDamage(UserWarning):
    """A cache entry did not match its checksum; it was set aside and is recomputed."""
