"""Bodies of answers, read as far as an answer can be long and no further."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


__all__ = ["Bodies", "TooMuch", "coding_of", "most_bytes"]

MOST_HELD = 128 << 20  # bytes of all answers that are being read
LARGEST = 32 << 20  # bytes of one, whatever it may have in tokens
OF_AN_ERROR = 64 << 10  # bytes of what a server says about an error
_ENVELOPE = 1 << 20  # bytes of an answer beside its tokens
_A_TOKEN = 1 << 10  # bytes: 128 characters, the longest that is usual, as JSON may write them
_ZLIB = ("gzip", "x-gzip", "deflate")


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
