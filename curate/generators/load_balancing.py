"""Load balancing over servers: addresses and keys, concurrency windows, and which servers are up."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shlex
import time
from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from curate.errors import InputError
from curate.generators.payloads import Served
from curate.storage.places import expanded

KEY_VARIABLE = "OPENAI_API_KEY"  # where OpenAI's clients look for the key
FIRST_WINDOW = 32.0  # initial number of concurrent requests per server


def check_url(url: str) -> str:
    """The address of a server without its path /v1. InputError for an invalid one; the message repeats no secrets."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError("url is not valid; write it like http://127.0.0.1:8000") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"url of {host!r} holds credentials, a query or a fragment; give http(s)://host:port[/path] alone and put "
            "the key into an environment variable (api_key_variable)"
        )
    if parts.scheme not in ("http", "https"):
        raise InputError(f"url has the scheme {parts.scheme[:20]!r}; use http://host:port or https://host:port")
    if not host:
        raise InputError("url names no host; write it like http://127.0.0.1:8000")
    name = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{path}"


def read_urls(path: str) -> tuple[str, ...]:
    """The addresses in a file, one per line; blank lines and lines that start with # are skipped.

    InputError if the file cannot be read, or a line is not an address.
    """
    try:
        lines = expanded(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); name a file with one address of a server a line") from error
    urls = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return tuple(dict.fromkeys(check_url(url) for url in urls))


def key_in(variable: str) -> str | None:
    """The key in an environment variable, stripped of surrounding whitespace; None if there is none.

    InputError, without repeating the key, for one that cannot be sent.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(
            f"the key in the environment variable {variable} holds a character that no key has (a line break, a "
            "control character, or one outside ASCII); set it again"
        )
    return key or None


def check_key_travels_safely(url: str, variable: str) -> None:
    """Raise InputError if a key would be sent unencrypted over a network."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise InputError(
            f"{url} is not encrypted and the key in {variable} would be readable on the way: use https, or name with "
            "api_key_variable a variable that is not set"
        )


def key_refusal(url: Any, variable: Any, given: Container[str]) -> str | None:
    """Why servers named by a recipe may not get the key in a variable, and the option that allows it; None = allowed.

    Otherwise a recipe could have any environment variable sent to its author. given: options that were typed; "--url
    URL" lets that server have the key in `KEY_VARIABLE`, "--send-key VARIABLE" all servers that variable. Values of a
    wrong type are left to the validation of the fields.
    """
    urls = [address for address in (url if isinstance(url, list | tuple) else [url]) if isinstance(address, str)]
    if not isinstance(variable, str) or f"--send-key {variable}" in given:
        return None
    refused = [
        address
        for address in urls
        if variable != KEY_VARIABLE or not (_is_here(address) or f"--url {address}" in given)
    ]
    if not refused or key_in(variable) is None:
        return None
    return (
        f"the key in the environment variable {variable} would be sent to {check_url(refused[0])}, which is not done "
        f"unasked; pass {shlex.join(['--send-key', variable])} if you trust it"
    )


def _is_here(url: str) -> bool:
    """Whether the server of a valid URL is on this machine."""
    return _is_loopback(urlsplit(check_url(url)).hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(eq=False)
class Endpoint:
    """One server. Its window of concurrent requests grows while it keeps up, and is halved when it is overloaded."""

    url: str
    served: Served | None = None  # None = down
    fault: str = ""  # why it is unreachable
    log: str = ""  # of a local server
    heard_at: float = 0.0  # time of its last answer of any kind
    hung: bool = False  # does not answer: left out while others are up
    window: float = FIRST_WINDOW
    in_flight: int = 0
    starting: bool = True  # until the first overload, the window doubles with each round
    cut_at: float = 0.0
    paused_until: float = 0.0

    def grow_window(self, most: int) -> None:
        """Grow the window after an answer. A window that is not fully used does not grow."""
        if self.in_flight + 1 >= self.window / 2:
            self.window = min(float(most), self.window + (1.0 if self.starting else 1.0 / self.window))

    def overloaded(self, asked_at: float, pause: float) -> None:
        """Shrink the window after a request sent at `asked_at` was too much; requests in flight together count once."""
        now = time.monotonic()
        self.paused_until = max(self.paused_until, now + pause)
        if asked_at >= self.cut_at:
            self.window, self.starting, self.cut_at = max(1.0, self.window / 2), False, now

    def free(self, now: float) -> bool:
        return self.served is not None and self.in_flight < int(self.window) and now >= self.paused_until


@dataclass
class Endpoints:
    """All servers; at most `most` requests are in flight. Its methods run in the thread of the event loop."""

    all: list[Endpoint]
    most: int
    down_since: float | None = None  # time when the last server that was up went down
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set when there may be more room
    in_flight: int = 0  # requests currently at servers
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def keep(self, urls: Sequence[str]) -> None:
        """Use the servers at these addresses: new ones once they answer; removed ones may finish their requests."""
        by_url = {endpoint.url: endpoint for endpoint in self.all}
        self.all[:] = [by_url.get(url) or Endpoint(url) for url in urls]
        if self.down_since is None and not any(endpoint.served for endpoint in self.all):
            self.down_since = time.monotonic()

    def room(self) -> int:
        """Number of requests worth having in flight."""
        return max(1, min(self.most, sum(int(endpoint.window) for endpoint in self.all if endpoint.served is not None)))

    async def acquire(self) -> Endpoint:
        """Wait for the least busy server that is up and has room, and take a slot; pass it to `release` afterwards."""
        while True:
            now = time.monotonic()
            free = [endpoint for endpoint in self.all if endpoint.free(now)] if self.in_flight < self.most else []
            if free:
                chosen = min(free, key=lambda endpoint: endpoint.in_flight / endpoint.window)
                chosen.in_flight += 1
                self.in_flight += 1
                return chosen
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def release(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self.in_flight -= 1
        self.wake(2)  # the slot, and one more by which the window may have grown

    def wake(self, count: int | None = None) -> None:
        """Wake up to `count` of the requests that wait for a server; None = all."""
        remaining = len(self._waiting) if count is None else count
        while self._waiting and remaining > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                remaining -= 1

    def pause(self, endpoint: Endpoint, asked_at: float, seconds: float) -> None:
        """Send an overloaded server nothing for a while."""
        endpoint.overloaded(asked_at, seconds)
        asyncio.get_running_loop().call_later(seconds + 0.001, self.wake)

    def mark_down(self, endpoint: Endpoint) -> None:
        """Mark a server as unreachable."""
        endpoint.served = None
        if self.down_since is None and not any(endpoint.served for endpoint in self.all):
            self.down_since = time.monotonic()

    def hangs(self, endpoint: Endpoint, asked_at: float) -> bool:
        """Leave out a server that has answered nothing since `asked_at` if others are up; returns whether it is."""
        peers_served = any(peer.served for peer in self.all if peer is not endpoint)
        if peers_served and endpoint.heard_at < asked_at:
            endpoint.hung, endpoint.served = True, None
        return endpoint.hung

    def mark_up(self, endpoint: Endpoint, served: Served) -> None:
        """Mark a server as up, with a new window."""
        endpoint.served = served
        endpoint.window, endpoint.starting, endpoint.paused_until = FIRST_WINDOW, True, 0.0
        self.down_since = None
        self.changed.set()
        self.wake()
