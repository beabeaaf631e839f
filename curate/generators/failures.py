"""What a failure of a server says: how long to wait, where else to look, why it is out of reach."""

from __future__ import annotations

import email.utils
import math
import socket
import ssl
import time
from urllib.parse import urlsplit

__all__ = ["HOPELESS", "Again", "destination", "given_up", "pause_seconds", "wanted_seconds", "why"]

LONGEST_PAUSE = 120.0  # seconds, of what a server may ask for with Retry-After
_UNKNOWN_NAME = "its name is not known"
_NO_TLS = "no encrypted connection can be made"
HOPELESS = frozenset({_UNKNOWN_NAME, _NO_TLS})  # what waiting does not change


class Again(Exception):
    """A request that may succeed when it is repeated. waited: a pause was already arranged."""

    def __init__(self, reason: str, *, waited: bool = False) -> None:
        super().__init__(reason)
        self.waited = waited


def given_up(url: str, log: str, fault: Again, often: int | None, seconds: float) -> str:
    """What to say of a request that failed so often, or else took so long. log: of a server of our own."""
    log = f"its log {log}" if log else "its log"
    if often is not None:
        what = f"the server failed {often} times on one request, at last at {url}: {fault}; see {log}"
    else:
        slow = "raise the generator's patience if it is only slow"
        what = f"one request was not answered in {seconds:.0f} s, at last by {url}: {fault}; see {log}, or {slow}"
    return f"{what}, then run the same command again"


def wanted_seconds(retry_after: str | None) -> float:
    """Seconds that a Retry-After header asks for; 0 = none that it makes sense to wait."""
    if not retry_after:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def pause_seconds(retry_after: str | None) -> float:
    """Seconds to wait for a Retry-After header, within reason."""
    return min(wanted_seconds(retry_after), LONGEST_PAUSE)


def destination(location: str) -> str:
    """Where a redirect leads, without credentials and query."""
    try:
        to = urlsplit(location)
        return f"{to.scheme}://{to.hostname}{to.path}" if to.hostname else to.path
    except ValueError:
        return "an address that cannot be read"


def why(error: BaseException) -> str:
    """Why a server could not be reached, in a few words."""
    cause = getattr(error, "os_error", getattr(error, "certificate_error", error))
    if isinstance(cause, socket.gaierror):
        return _UNKNOWN_NAME
    if isinstance(cause, ssl.SSLError):
        return _NO_TLS
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return "it does not answer" if isinstance(cause, TimeoutError) else type(cause).__name__
