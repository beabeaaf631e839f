"""HTTP responses of servers: bounded bodies, requested pauses, and reasons why a server is unreachable."""

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


MOST_HELD_BYTES = 128 << 20  # bytes of all answers being read
_LARGEST = 32 << 20  # bytes of one answer, whatever its tokens
ERROR_BYTES = 64 << 10  # bytes of an error response
_ENVELOPE = 1 << 20  # bytes of an answer besides its tokens
_A_TOKEN = 1 << 10  # bytes: the 128 characters of the longest usual token, escaped in JSON
_ZLIB = ("gzip", "x-gzip", "deflate")
LONGEST_PAUSE = 120.0  # seconds of a Retry-After header that are honored
_UNKNOWN_NAME = "its name is not known"
_NO_TLS = "no encrypted connection can be made"
HOPELESS = frozenset({_UNKNOWN_NAME, _NO_TLS})  # faults that waiting does not fix


class BodyTooLong(Exception):
    """A body is too long, or (with `together`) all bodies being read are."""

    def __init__(self, reason: str, *, together: bool = False) -> None:
        super().__init__(reason)
        self.together = together


def body_limit(tokens: int) -> int:
    """Maximum bytes of an answer with that many tokens."""
    return min(_LARGEST, _ENVELOPE + tokens * _A_TOKEN)


def unsupported_encoding(response: aiohttp.ClientResponse) -> str | None:
    """The compression of a body if it is not supported, else None."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    return None if coding in ("", "identity", *_ZLIB) else coding


class BodyReader:
    """Reads bodies of bounded size. held: bytes of the bodies being read."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, response: aiohttp.ClientResponse, most: int, *, cut: bool = False) -> bytes:
        """The decompressed body of a response. BodyTooLong for more than `most` bytes, unless `cut`.

        Unrequested compression is decoded within the same bound. ValueError if it is invalid.
        """
        unpack = _unpacker(response)
        parts: list[bytes] = []
        received = size = 0  # bytes, before and after decompression
        try:
            async for packed in response.content.iter_any():
                part = unpack(packed, most + 1 - size)
                received, size = received + len(packed), size + len(part)
                self.held += len(part)
                parts.append(part)
                if max(received, size) > most:
                    response.close()  # the rest is not needed
                    if cut:
                        break
                    raise BodyTooLong(f"an answer of more than {most >> 10:,} KiB")
                if self.held > MOST_HELD_BYTES:
                    response.close()
                    raise BodyTooLong(f"answers of more than {MOST_HELD_BYTES >> 20:,} MiB at a time", together=True)
        finally:
            self.held -= size
        return b"".join(parts)[:most]


def _unpacker(response: aiohttp.ClientResponse) -> Callable[[bytes, int], bytes]:
    """A function of received bytes and a maximum size that returns decompressed bytes."""
    if response.headers.get("Content-Encoding", "").strip().lower() not in _ZLIB:
        return lambda packed, most: packed
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib

    def unpack(packed: bytes, most: int) -> bytes:
        try:
            return stream.decompress(packed, most)
        except zlib.error as error:
            raise ValueError(f"not compressed as it says ({error})") from error

    return unpack


class RetryableError(Exception):
    """A request failed but may succeed when retried. waited: a pause is already arranged."""

    def __init__(self, reason: str, *, waited: bool = False) -> None:
        super().__init__(reason)
        self.waited = waited


def wanted_seconds(retry_after: str | None) -> float:
    """Seconds that a Retry-After header asks for; 0 if it is missing, invalid or in the past."""
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
    """Seconds to wait for a Retry-After header, bounded."""
    return min(wanted_seconds(retry_after), LONGEST_PAUSE)


def redirect_target(location: str) -> str:
    """The target of a redirect, without credentials and query."""
    try:
        to = urlsplit(location)
        return f"{to.scheme}://{to.netloc.rpartition('@')[2]}{to.path}" if to.hostname else to.path
    except ValueError:
        return "an address that cannot be read"


def unreachable_reason(error: BaseException) -> str:
    """Why a server is unreachable, in a few words."""
    cause = getattr(error, "os_error", getattr(error, "certificate_error", error))
    if isinstance(cause, socket.gaierror):
        return _UNKNOWN_NAME
    if isinstance(cause, ssl.SSLError):
        return _NO_TLS
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return "it does not answer" if isinstance(cause, TimeoutError) else type(cause).__name__
