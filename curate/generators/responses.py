"""HTTP responses of servers: bodies of bounded size, pauses they ask for, and why a server is unreachable."""

from __future__ import annotations

import email.utils
import math
import socket
import ssl
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import aiohttp


MOST_HELD = 128 << 20  # bytes of all answers that are being read
LARGEST = 32 << 20  # bytes of one, whatever it may have in tokens
OF_AN_ERROR = 64 << 10  # bytes of what a server says about an error
_ENVELOPE = 1 << 20  # bytes of an answer beside its tokens
_A_TOKEN = 1 << 10  # bytes: 128 characters, the longest that is usual, as JSON may write them
_ZLIB = ("gzip", "x-gzip", "deflate")
LONGEST_PAUSE = 120.0  # seconds, of what a server may ask for with Retry-After
_UNKNOWN_NAME = "its name is not known"
_NO_TLS = "no encrypted connection can be made"
HOPELESS = frozenset({_UNKNOWN_NAME, _NO_TLS})  # what waiting does not change


class TooMuch(Exception):
    """A body is longer than it may be. together: it is not, but all that are being read are."""

    def __init__(self, reason: str, *, together: bool = False) -> None:
        super().__init__(reason)
        self.together = together


def most_bytes(tokens: int) -> int:
    """Bytes that an answer of so many tokens may have."""
    return min(LARGEST, _ENVELOPE + tokens * _A_TOKEN)


def coding_of(response: aiohttp.ClientResponse) -> str | None:
    """How a body is compressed where that cannot be undone here; None where it can, or is not compressed."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    return None if coding in ("", "identity", *_ZLIB) else coding


class Bodies:
    """Reads bodies. held: bytes of those that are being read now."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, response: aiohttp.ClientResponse, most: int, *, cut: bool = False) -> bytes:
        """The body of a response, decompressed. TooMuch for more than `most` bytes, unless it may be cut there.

        A server that compresses though it was not asked to is understood, within the same bound. ValueError for what
        only claims to be compressed.
        """
        unpack = _unpacker(response)
        parts: list[bytes] = []
        came = size = 0
        try:
            async for packed in response.content.iter_any():
                part = unpack(packed, most + 1 - size)
                came, size = came + len(packed), size + len(part)
                self.held += len(part)
                parts.append(part)
                if max(came, size) > most:
                    response.close()  # the rest is not wanted
                    if cut:
                        break
                    raise TooMuch(f"an answer of more than {most >> 10:,} KiB")
                if self.held > MOST_HELD:
                    response.close()
                    raise TooMuch(f"answers of more than {MOST_HELD >> 20:,} MiB at a time", together=True)
        finally:
            self.held -= size
        return b"".join(parts)[:most]


def _unpacker(response: aiohttp.ClientResponse) -> Callable[[bytes, int], bytes]:
    """What makes bytes as they came, and the most that are wanted of them, into those that were meant."""
    if response.headers.get("Content-Encoding", "").strip().lower() not in _ZLIB:
        return lambda packed, most: packed
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip and zlib alike

    def unpack(packed: bytes, most: int) -> bytes:
        try:
            return stream.decompress(packed, most)
        except zlib.error as error:
            raise ValueError(f"not compressed as it says ({error})") from error

    return unpack


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
