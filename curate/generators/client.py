"""Asks servers for completions, again where that may help, and says whose turn it is where it does not."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from curate.errors import ExternalError, InputError
from curate.generation import Completion, Request
from curate.generators.endpoints import Endpoint, Endpoints
from curate.generators.prompts import Mode
from curate.generators.server_process import one_line
from curate.generators.wire import (
    Served,
    completion_of,
    encode,
    message_of,
    names_no_chat_template,
    refuses_prompt,
    served_as,
    speaks_for,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Client"]

FIRST_BACKOFF = 0.5  # seconds before the first repeat, doubled with each further one
LONGEST_BACKOFF = 30.0
LONGEST_PAUSE = 120.0  # of what a server may ask for with Retry-After
LARGEST_ANSWER = 32 << 20  # bytes
PROBE_SECONDS = 10.0
_KEEP_ALIVE = 4.0  # seconds a connection is kept unused: uvicorn, vLLM's server, drops it after 5
_IN_DISTRESS = {408, 425, 500, 502, 504}
_OVERLOADED = {429, 503}
_REFUSING = {400, 404, 413, 422}


class _Again(Exception):
    """A request that may succeed when it is repeated. waited: a pause was already arranged. late: time ran out."""

    def __init__(self, reason: str, *, waited: bool = False, late: bool = False) -> None:
        super().__init__(reason)
        self.waited, self.late = waited, late


class Client:
    """An async context manager around one pool of connections.

    key: sent as a bearer token, and in no message. key_variable: where the user put it.
    note: what the user is told by the way.
    """

    def __init__(
        self,
        model: str,
        mode: Mode,
        endpoints: Endpoints,
        *,
        key: str | None,
        key_variable: str,
        retries: int,
        request_timeout: float,
    ) -> None:
        self.model, self.mode, self.endpoints = model, mode, endpoints
        self.key, self.key_variable = key, key_variable
        self.retries, self.request_timeout = retries, request_timeout
        self.note: Callable[[str], None] = lambda text: None
        self._noted_usage = self._noted_slowness = False
        self._jitter = random.Random()

    async def __aenter__(self) -> Client:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        self._unreachable = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        self._broken = (aiohttp.ClientError, TimeoutError, OSError, EOFError)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.endpoints.most, keepalive_timeout=_KEEP_ALIVE),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._timeout = lambda seconds: aiohttp.ClientTimeout(total=seconds, sock_connect=PROBE_SECONDS)
        self._probe_timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def probe(self, endpoint: Endpoint) -> Served | None:
        """The model as the server offers it; None where the server does not answer, or not yet.

        InputError where it offers another model or does not accept the key.
        """
        try:
            async with self._session.get(
                endpoint.url + "/v1/models", timeout=self._probe_timeout, allow_redirects=False
            ) as response:
                content = await self._content(response)
                status, location = response.status, response.headers.get("Location", "")
        except (*self._broken, _Again):
            return None
        if status in _IN_DISTRESS or status in _OVERLOADED:
            return None
        self._check_status(endpoint, status, location, content)
        try:
            listed = json.loads(content) if status == 200 else None
        except (ValueError, RecursionError):
            listed = None
        if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
            raise InputError(
                f"{endpoint.url}/v1/models does not list models (status {status}); name an OpenAI-compatible server"
            )
        served = served_as(self.model, listed)
        if served is None:
            names = [str(entry.get("id")) for entry in listed["data"] if isinstance(entry, dict)]
            raise InputError(
                f"{endpoint.url} serves {self._clean(', '.join(names)) or 'no model'}, not {self.model}; start it with "
                "that model, or name the one it serves"
            )
        return served

    async def ask(self, request: Request) -> Completion:
        """One completion. ExternalError after too many failures, InputError for what no repeat can mend."""
        fault = _Again("it was not asked")
        patience = self.request_timeout
        for attempt in range(self.retries + 1):
            if attempt and not fault.waited:
                longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (attempt - 1))
                await asyncio.sleep(longest * self._jitter.uniform(0.5, 1.0))
            endpoint = await self.endpoints.acquire()
            try:
                return await self._ask(endpoint, request, patience)
            except _Again as error:
                fault = error
                patience *= 2 if error.late else 1
            finally:
                self.endpoints.release(endpoint)
        raise ExternalError(
            f"the server failed {self.retries + 1} times on one request, at last at {endpoint.url}: {fault}; see its "
            "log, then run the same command again"
        )

    async def _ask(self, endpoint: Endpoint, request: Request, patience: float) -> Completion:
        served = endpoint.served
        if served is None:
            raise _Again("it went down", waited=True)
        path, body = encode(request, served, self.mode)
        asked_at = time.monotonic()
        try:
            async with self._session.post(
                endpoint.url + path, data=body, allow_redirects=False, timeout=self._timeout(patience)
            ) as response:
                content = await self._content(response)
                status, headers = response.status, response.headers
        except self._unreachable as error:
            self.endpoints.fell(endpoint)
            raise _Again(f"no connection ({type(error).__name__})", waited=True) from error
        except TimeoutError as error:
            # All that are under way share the server: asked again as many at a time, all would be late again.
            self.endpoints.pause(endpoint, asked_at, 0.0)
            if not self._noted_slowness:
                self._noted_slowness = True
                self.note(f"no answer from {endpoint.url} in {patience:g} s; asking less at a time, and waiting longer")
            raise _Again(f"no answer in {patience:g} s", waited=True, late=True) from error
        except self._broken as error:
            raise _Again(f"the connection broke ({type(error).__name__})") from error
        if status == 200:
            completion = self._completion(endpoint, served, request, content)
            endpoint.coped(self.endpoints.most)
            return completion
        if status in _OVERLOADED:
            pause = _seconds(headers.get("Retry-After"))
            self.endpoints.pause(endpoint, asked_at, pause)
            raise _Again(f"status {status}: {self._clean(message_of(content))}", waited=pause > 0)
        if status in _IN_DISTRESS or status > 504:
            raise _Again(f"status {status}: {self._clean(message_of(content))}")
        self._check_status(endpoint, status, headers.get("Location", ""), content)
        return self._refusal(endpoint, status, self._clean(message_of(content)))

    def _completion(self, endpoint: Endpoint, served: Served, request: Request, content: bytes) -> Completion:
        try:
            answer = completion_of(content, request.sampling.max_tokens)
        except ValueError as error:
            raise _Again(f"not a completion: {one_line(str(error), 120)}") from error
        if answer.model is not None and not speaks_for(answer.model, served, self.model):
            raise InputError(
                f"{endpoint.url} answered as {self._clean(answer.model)}, not as {self.model}; see where it passes "
                "requests on to, or name the model that answers"
            )
        if not answer.counted and not self._noted_usage:
            self._noted_usage = True
            self.note("the server does not say how many tokens it used; max_tokens is assumed")
        return answer.completion

    def _refusal(self, endpoint: Endpoint, status: int, message: str) -> Completion:
        if names_no_chat_template(message):
            raise InputError(f"{self.model} has no chat template ({message}); set template: plain")
        if status in _REFUSING and refuses_prompt(message):
            return Completion("", "refused", refusal=message)
        raise InputError(f"{endpoint.url} does not accept a request (status {status}): {message}")

    def _check_status(self, endpoint: Endpoint, status: int, location: str, content: bytes) -> None:
        """Raise for what concerns the server and not a request."""
        if 300 <= status < 400:
            to = urlsplit(location)
            where = self._clean(f"{to.scheme}://{to.hostname}{to.path}" if to.hostname else to.path)
            raise ExternalError(
                f"{endpoint.url} redirects to {where}, which is not followed; set url to where it leads"
            )
        if status in (401, 403):
            given = "does not accept the key in" if self.key else "wants a key, and there is none in"
            raise InputError(
                f"{endpoint.url} {given} the environment variable {self.key_variable} (status {status}); set it, or "
                "name another with api_key_variable"
            )

    async def _content(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, if it is not larger than any completion is."""
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > LARGEST_ANSWER:
                response.close()
                raise _Again(f"an answer of more than {LARGEST_ANSWER >> 20} MiB")
            parts.append(part)
        return b"".join(parts)

    def _clean(self, text: str) -> str:
        return one_line(text.replace(self.key, "***") if self.key else text)


def _seconds(retry_after: str | None) -> float:
    """Seconds that a Retry-After header asks for, within reason; 0 = it does not."""
    if not retry_after:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE) if math.isfinite(seconds) else 0.0
